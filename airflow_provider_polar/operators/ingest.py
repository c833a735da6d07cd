"""Usage events to Polar, each stored once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.limits import MAX_EVENTS_PER_REQUEST
from airflow_provider_polar.engine.files.uris import same_for_all_connections
from airflow_provider_polar.engine.ingesting.options import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_CONCURRENCY,
    MAX_CONCURRENCY,
    IngestOptions,
    OnInvalid,
    UnknownParents,
)
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.links.polar import PolarEventsLink, show_events
from airflow_provider_polar.operators._query import PolarQueryOperator
from airflow_provider_polar.operators._rows import PolarRowsOperator, UnshownEvents
from airflow_provider_polar.operators._storage import check_path, storage_path
from airflow_provider_polar.parameters import Parser, is_nothing, one_of, optional, positive_count

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.engine.ingesting.mapping import EventMapping
    from airflow_provider_polar.engine.ingesting.preparation import ToEvent
    from airflow_provider_polar.engine.ingesting.sources import Row

_NO_SCOPE = "content"
_OPTIONS = ("on_invalid", "on_changed", "unknown_parents", "batch_size", "max_concurrency")


class PolarIngestEventsOperator(PolarRowsOperator, PolarQueryOperator):
    """Sends usage events to Polar.

    However often the task is retried, killed, cleared or run again in its run, each event is stored, and so billed, at
    most once; when it succeeds, every event that was not rejected is stored.

    With ``on_invalid="fail"`` everything is read and checked before the first request. Events keep their
    ``external_id``; one without gets one that is derived from the scope and the event's content, equal events of a run
    being numbered, or of a query with ``key`` from the scope and the key. Give exactly one of ``events``, ``source``
    and ``sql``. Returns
    ``{"events", "inserted", "duplicates", "rejected", "batches", "rejected_path"}``.

    :param events: a list of dicts (templated; also an ``XComArg``, or JSON text that a template renders to). An event
        has ``name``; one of ``external_customer_id`` and ``customer_id``; and may have ``timestamp`` (aware datetime or
        ISO 8601 text with a zone), ``metadata``, ``external_id``, ``parent_id``, ``external_member_id``, ``member_id``.
        Airflow's record of rendered fields says how many they are; their content is not in it.
    :param source: instead of ``events``: an object storage path, or a glob of them, of ``.jsonl``, ``.ndjson``,
        ``.json``, ``.csv`` (these also ``.gz`` or ``.zst``) or ``.parquet`` files (templated). Files are streamed.
        Files of rejected rows, see ``rejected_path``, are left out of a glob.
    :param source_conn_id: Airflow connection of the source's store (templated).
    :param mapping: makes events of rows, see :mod:`airflow_provider_polar.engine.ingesting.mapping`; checked at once.
    :param on_invalid: ``fail`` sends nothing if any row is invalid; ``skip`` writes invalid rows, each with its
        reasons, to ``rejected_path`` and sends the others, some of them while rows are still read. Two rows of
        different content under one ``external_id`` fail the task either way. A child of a rejected event is rejected.
    :param rejected_path: the JSONL file for rejected rows (templated); required with ``skip``. It is written whole,
        of a failed task, too, and removed when the task runs again without a rejected row. A file of another run or
        mapped task is never replaced; this one's then has a name of its own, see ``rejected_path`` of the result. Put
        ``{{ run_id }}``, and for mapped tasks ``{{ ti.map_index }}``, in it to choose the name yourself.
    :param rejected_conn_id: Airflow connection of its store (templated).
    :param batch_size: events of a request at most; 1 to 32,767. Requests are also kept within Polar's 10 MB.
    :param idempotency_scope: what makes equal events of two runs two events (templated). By default this run: dag id,
        task id, run id, and of a mapped task the source's path, or else the map index (which changes where
        the list that it is mapped over changes: give such a task a scope). A text of your choice (a file's name, a
        business date) is shared by all tasks and runs that name it. ``content`` is no scope at all: equal content is
        one event in every run for ever. With ``key`` it is by default the task in all its runs: dag id and task id.
    :param unknown_parents: ``reject`` rows whose ``parent_id`` is neither an ``external_id`` of this run nor an
        event id at Polar (one request for each such id), or ``accept`` them unchecked: Polar hides such events until
        their parent arrives.
    :param max_concurrency: requests in flight, 1 to 16.
    :param dry_run: check and count, log the first events as they would be sent, send nothing.
    :raises PolarInvalidEventsError: rows are invalid; fails the task without retries.
    :raises PolarSourceError: the files or the query cannot be read; a retry helps where a store or a database was away.
    :raises PolarIngestIncompleteError: some events are not stored, or perhaps not; a retry is safe and sends the rest.
        Where no retry can help (a wrong token, a missing scope), the task fails without retries.
    """

    template_fields: Sequence[str] = (
        *PolarQueryOperator.template_fields,
        "events",
        "source",
        "source_conn_id",
        "rejected_path",
        "rejected_conn_id",
        "idempotency_scope",
    )
    operator_extra_links = (PolarEventsLink(),)
    ui_color = "#dbe7ff"

    def __init__(
        self,
        *,
        on_invalid: OnInvalid = "fail",
        rejected_path: str | ObjectStoragePath | None = None,
        rejected_conn_id: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        idempotency_scope: str | None = None,
        unknown_parents: UnknownParents = "reject",
        max_concurrency: int = DEFAULT_CONCURRENCY,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_invalid = on_invalid
        self.rejected_path = rejected_path
        self.rejected_conn_id = rejected_conn_id
        self.batch_size = batch_size
        self.idempotency_scope = idempotency_scope
        self.unknown_parents = unknown_parents
        self.max_concurrency = max_concurrency
        # BaseOperator has a method of the name dry_run.
        self.is_dry_run = dry_run
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "on_invalid": one_of(*get_args(OnInvalid)),
            "rejected_path": optional(check_path),
            "batch_size": _count_up_to(MAX_EVENTS_PER_REQUEST),
            "idempotency_scope": optional(_scope_name),
            "unknown_parents": one_of(*get_args(UnknownParents)),
            "max_concurrency": _count_up_to(MAX_CONCURRENCY),
        }

    def _check_together(self) -> None:
        super()._check_together()
        if sum(given is not None for given in (self.events, self.source, self.sql)) != 1:
            raise PolarConfigurationError("give exactly one of events, source and sql")
        if self.on_invalid == "skip" and self.rejected_path is None:
            raise PolarConfigurationError("on_invalid='skip' needs rejected_path, where the skipped rows are kept")

    def execute(self, context: Context) -> dict[str, Any]:
        """Ingests the events."""
        with self._connected():
            if self.sql is not None:
                return self._ingest_query(context)
            if self.source is not None:
                return self._ingest_source(context)
            return self._ingest_rows(context, self._rendered_events())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import ingest_lineage

        ingested = getattr(self, "_ingested", None)
        return ingested and ingest_lineage(self.polar_conn_id, *ingested)

    def _scope(self, context: Context) -> tuple[str, str]:
        """The scope of derived identities, and the same in words."""
        from airflow_provider_polar.engine.ingesting import identity

        scope = self._parsed("idempotency_scope")
        if scope == _NO_SCOPE:
            return identity.CONTENT_SCOPE, "by their content alone, in all runs"
        if scope is not None:
            return identity.named_scope(scope), f"by the scope {scope!r}"
        ti = context["ti"]
        if self.key is not None:
            return identity.task_scope(ti.dag_id, ti.task_id), "by their key in all runs of this task"
        run = (ti.dag_id, ti.task_id, ti.run_id)
        index: Any = -1 if ti.map_index is None else ti.map_index
        if index < 0:
            return identity.run_scope(*run, index), "by this run"
        if self.source is not None:
            return identity.run_scope(*run, same_for_all_connections(str(self.source))), "by this run and their source"
        self.log.warning(
            "The identity of events without an external_id holds this task's map index, %s: if the list that the task "
            "is mapped over changes before it is cleared, its events are billed again. Set idempotency_scope to what "
            "names this one's events in the run, a customer or a business date, say, or ingest from source=.",
            index,
        )
        return identity.run_scope(*run, index), "by this run and the map index"

    def _ingest_source(self, context: Context) -> dict[str, Any]:
        from airflow_provider_polar.engine.ingesting.sources import rows_of_files
        from airflow_provider_polar.engine.ingesting.validation import check_event_columns

        paths = self._paths()
        told = str(self.source) if len(paths) == 1 else f"{len(paths):,} files of {self.source}"
        mapping: EventMapping | None = self._parsed("mapping")
        rows = rows_of_files(paths, mapping.check_columns if mapping else check_event_columns)
        return self._ingest(context, rows, [str(path) for path in paths], told)

    def _ingest_rows(self, context: Context, events: Iterable[Any]) -> dict[str, Any]:
        from airflow_provider_polar.engine.ingesting.sources import rows_in_memory

        told = repr(UnshownEvents(events)) if isinstance(events, Sequence) else "events as they come"
        return self._ingest(context, rows_in_memory(events), [""], told)

    def _ingest_query(self, context: Context) -> dict[str, Any]:
        from airflow_provider_polar.engine.ingesting.validation import check_event_columns

        mapping: EventMapping | None = self._parsed("mapping")
        to_event = self._keyed(self._scope(context)[0], mapping) or mapping
        check = to_event.check_columns if to_event else check_event_columns
        rows, told = self._rows_of_query(self._query(context), check)
        return self._ingest(context, rows, [""], f"the query in {told}", to_event)

    def _paths(self) -> list[ObjectStoragePath]:
        from airflow_provider_polar.engine.ingesting.rejected import is_rejected_file
        from airflow_provider_polar.engine.ingesting.sources import is_glob

        found, rejected = super()._paths(), self._rejected_path()
        if rejected is None or rejected.protocol != found[0].protocol or not is_glob(str(self.source)):
            return found
        rows = [one for one in found if not is_rejected_file(one.path, rejected.path)]
        if not rows:
            raise PolarConfigurationError(f"{self.source} matches nothing but files of rejected rows")
        return rows

    def _rejected_path(self) -> ObjectStoragePath | None:
        if self.rejected_path is None:
            return None
        return storage_path(self.rejected_path, self.rejected_conn_id, "rejected_path")

    def _ingest(
        self,
        context: Context,
        rows: Iterable[Row],
        sources: Sequence[str],
        told: str,
        to_event: ToEvent | None = None,
    ) -> dict[str, Any]:
        from airflow_provider_polar.engine.ingesting.ingest import Ingest
        from airflow_provider_polar.plugins.ledger.records import keep_ingest

        ti = context["ti"]
        scope, scope_in_words = self._scope(context)
        target = f"Polar (connection {self.polar_conn_id})"
        if not self.is_dry_run:  # which needs no connection
            target = f"Polar ({self.hook.settings.base_url}, connection {self.polar_conn_id})"
            show_events(context, self.hook.settings.environment)
            keep_ingest(context, self.polar_conn_id)
        self.log.info(
            "Ingesting %s into %s; events without an external_id are told apart %s.", told, target, scope_in_words
        )
        owner = json.dumps([ti.dag_id, ti.task_id, ti.run_id, ti.map_index])
        options = IngestOptions(
            scope=scope, dry_run=self.is_dry_run, owner=owner, **{name: self._parsed(name) for name in _OPTIONS}
        )
        ingest = Ingest(
            self.hook.get_conn,
            options,
            rejected=self._rejected_path(),
            progress=context.get("task_state_store"),
            target=target,
            log=self.log,
        )
        snapshot = self._snapshot(scope, owner)
        mapping = to_event or self._parsed("mapping")
        summary = ingest.run(rows, mapping=mapping, sources=sources, snapshot=snapshot)._asdict()
        self._ingested = [source for source in sources if source], summary
        if not self.is_dry_run:
            keep_ingest(context, self.polar_conn_id, summary)
        return summary


def _scope_name(value: Any, name: str) -> str:
    # Under a scope that every run without a value shares, the events of one run would be another's duplicates.
    if is_nothing(str(value)):
        raise PolarConfigurationError(f"{name} is {value!r}, that is nothing; for no scope at all say {_NO_SCOPE!r}")
    return str(value).strip()


def _count_up_to(most: int) -> Parser:
    def parse(value: Any, name: str) -> int:
        if (count := positive_count(value, name)) > most:
            raise PolarConfigurationError(f"{name} is {value!r}; it is a whole number from 1 to {most:,}")
        return count

    return parse
