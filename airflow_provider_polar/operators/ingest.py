"""Usage events to Polar, each stored once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, ObjectStoragePath, XComArg

from airflow_provider_polar.engine.files.uris import same_for_all_connections
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.links.polar import PolarEventsLink, show_events
from airflow_provider_polar.operators._base import failing_clearly
from airflow_provider_polar.operators._storage import storage_path
from airflow_provider_polar.parameters import is_templated

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.engine.ingesting.ingest import IngestOptions, IngestSummary
    from airflow_provider_polar.engine.ingesting.sources import Row

CONTENT_SCOPE = "content"
_PROGRESS = "polar_ingest_progress"
_MAX_BATCH, _MAX_CONCURRENCY = 32_767, 16


class _Events:
    """Rendered events, which the record of rendered fields does not quote.

    Airflow shows a rendered field in its web pages and keeps it in its database as the text that it is: this one says
    how many events there are, and not which."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        if isinstance(self.value, Sequence) and not isinstance(self.value, (str, bytes)):
            return "1 event" if len(self.value) == 1 else f"{len(self.value):,} events"
        return f"events as {type(self.value).__name__}"


class PolarIngestEventsOperator(BaseOperator):
    """Sends usage events to Polar.

    However often the task is retried, killed, cleared or run again in its run, each event is stored, and so billed, at
    most once; when it succeeds, every event that was not rejected is stored.

    With ``on_invalid="fail"`` everything is read and checked before the first request. Events keep their
    ``external_id``; one without gets one that is derived from the scope and the event's content, equal events of a run
    being numbered. Returns ``{"events", "inserted", "duplicates", "rejected", "batches", "rejected_path"}``.

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
        task id, run id, and of a mapped task the source's path, or with ``events`` the map index (which changes where
        the list that it is mapped over changes: give such a task a scope). A text of your choice (a file's name, a
        business date) is shared by all tasks and runs that name it. ``content`` is no scope at all: equal content is
        one event in every run for ever.
    :param unknown_parents: ``reject`` rows whose ``parent_id`` is neither an ``external_id`` of this run nor an
        event id at Polar (one request for each such id), or ``accept`` them unchecked: Polar hides such events until
        their parent arrives.
    :param max_concurrency: requests in flight, 1 to 16.
    :param requests_per_minute: request budget of this task; default the connection's.
    :param dry_run: check and count, log the first events as they would be sent, send nothing.
    :param polar_conn_id: the Polar connection (templated).
    :raises PolarConfigurationError: at once, for parameters that cannot be.
    :raises PolarInvalidEventsError: rows are invalid; fails the task without retries.
    :raises PolarIngestIncompleteError: some events are not stored, or perhaps not; a retry is safe and sends the rest.
        Where no retry can help (a wrong token, a missing scope), the task fails without retries.
    """

    template_fields: Sequence[str] = (
        "events",
        "source",
        "source_conn_id",
        "rejected_path",
        "rejected_conn_id",
        "idempotency_scope",
        "polar_conn_id",
    )
    operator_extra_links = (PolarEventsLink(),)
    ui_color = "#dbe7ff"

    def __init__(
        self,
        *,
        events: Sequence[Mapping[str, Any]] | XComArg | str | None = None,
        source: str | ObjectStoragePath | None = None,
        source_conn_id: str | None = None,
        mapping: Mapping[str, Any] | None = None,
        on_invalid: Literal["fail", "skip"] = "fail",
        rejected_path: str | ObjectStoragePath | None = None,
        rejected_conn_id: str | None = None,
        batch_size: int = 1000,
        idempotency_scope: str | None = None,
        unknown_parents: Literal["reject", "accept"] = "reject",
        max_concurrency: int = 4,
        requests_per_minute: float | None = None,
        dry_run: bool = False,
        polar_conn_id: str = "polar_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.events = events
        self.source = source
        self.source_conn_id = source_conn_id
        self.mapping = mapping
        self.on_invalid = on_invalid
        self.rejected_path = rejected_path
        self.rejected_conn_id = rejected_conn_id
        self.batch_size = batch_size
        self.idempotency_scope = idempotency_scope
        self.unknown_parents = unknown_parents
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        # BaseOperator has a method of the name dry_run.
        self.is_dry_run = dry_run
        self.polar_conn_id = polar_conn_id
        self._check_parameters()

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Renders a value as every operator does, and keeps rendered events from being shown."""
        rendered = super().render_template(content, *args, **kwargs)
        is_events = "events" in self.template_fields and content is self.events
        return _Events(rendered) if is_events and not isinstance(rendered, _Events) else rendered

    def execute(self, context: Context) -> dict[str, Any]:
        """Ingests the events."""
        with failing_clearly():
            if self.source is not None:
                return self._ingest_source(context).to_dict()
            return self._ingest_rows(context, self._rendered_events()).to_dict()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import ingest_lineage

        ingested = getattr(self, "_ingested", None)
        return ingested and ingest_lineage(self.polar_conn_id, *ingested)

    # Parameters

    def _check_parameters(self) -> None:
        if (self.events is None) == (self.source is None):
            raise PolarConfigurationError("give exactly one of events and source")
        for name, value, known in (
            ("on_invalid", self.on_invalid, ("fail", "skip")),
            ("unknown_parents", self.unknown_parents, ("reject", "accept")),
        ):
            if value not in known:
                raise PolarConfigurationError(f"{name} is {value!r}; it is one of {', '.join(known)}")
        if self.on_invalid == "skip" and self.rejected_path is None:
            raise PolarConfigurationError("on_invalid='skip' needs rejected_path, where the skipped rows are kept")
        for name, number, most in (
            ("batch_size", self.batch_size, _MAX_BATCH),
            ("max_concurrency", self.max_concurrency, _MAX_CONCURRENCY),
        ):
            if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
                raise PolarConfigurationError(f"{name} is {number!r}; it is a whole number from 1 to {most}")
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise PolarConfigurationError(f"requests_per_minute is {self.requests_per_minute}; it must be positive")
        if self.idempotency_scope is not None and not str(self.idempotency_scope).strip():
            raise PolarConfigurationError("idempotency_scope is empty; for no scope at all say 'content'")
        if self.mapping is not None:
            from airflow_provider_polar.engine.ingesting.mapping import EventMapping

            EventMapping(self.mapping)
        if self.source is not None and not is_templated(self.source):
            from airflow_provider_polar.engine.files.formats import format_of
            from airflow_provider_polar.engine.ingesting.sources import is_glob

            if not is_glob(str(self.source)):
                format_of(str(self.source))

    def _rendered_events(self) -> Iterable[Any]:
        events: Any = self.events.value if isinstance(self.events, _Events) else self.events
        if isinstance(events, str):
            try:
                events = json.loads(events)
            except ValueError:
                raise PolarConfigurationError(
                    "events is text that is not JSON; give the upstream task's output itself, or render | tojson"
                ) from None
        return as_rows(events, "events")

    def _scope(self, context: Context) -> tuple[str, str]:
        """The scope of derived identities, and the same in words."""
        from airflow_provider_polar.engine.ingesting import identity

        if self.idempotency_scope is None:
            ti = context["ti"]
            run = (ti.dag_id, ti.task_id, ti.run_id)
            index: Any = -1 if ti.map_index is None else ti.map_index
            if index >= 0 and self.source is not None:
                source = same_for_all_connections(str(self.source))
                return identity.run_scope(*run, source), "by this run and their source"
            if index >= 0:
                self.log.warning(
                    "The identity of events without an external_id holds this task's map index, %s: if the list that "
                    "the task is mapped over changes before it is cleared, its events are billed again. Set "
                    "idempotency_scope to what names this one's events in the run, a customer "
                    "or a business date, say, or ingest from source=.",
                    index,
                )
            return identity.run_scope(*run, index), "by this run" if index < 0 else "by this run and the map index"
        scope = str(self.idempotency_scope).strip()
        # Under a scope that every run without a value shares, the events of one run would be another's duplicates.
        if scope in ("", "None"):
            raise PolarConfigurationError(
                f"idempotency_scope has rendered to {scope!r}, that is to nothing; for none at all say 'content'"
            )
        if scope == CONTENT_SCOPE:
            return identity.CONTENT_SCOPE, "by their content alone, in all runs"
        return identity.named_scope(scope), f"by the scope {scope!r}"

    def _options(self, context: Context, scope: str) -> IngestOptions:
        from airflow_provider_polar.engine.ingesting.ingest import IngestOptions

        ti = context["ti"]
        return IngestOptions(
            scope=scope,
            on_invalid=self.on_invalid,
            unknown_parents=self.unknown_parents,
            batch_size=self.batch_size,
            max_concurrency=self.max_concurrency,
            dry_run=self.is_dry_run,
            owner=json.dumps([ti.dag_id, ti.task_id, ti.run_id, ti.map_index]),
        )

    # Steps

    def _ingest_source(self, context: Context) -> IngestSummary:
        from airflow_provider_polar.engine.ingesting.columns import check_event_columns
        from airflow_provider_polar.engine.ingesting.mapping import EventMapping
        from airflow_provider_polar.engine.ingesting.sources import rows_of_files

        paths = self._paths()
        told = str(self.source) if len(paths) == 1 else f"{len(paths):,} files of {self.source}"
        check = check_event_columns if self.mapping is None else EventMapping(self.mapping).check_columns
        return self._ingest(context, rows_of_files(paths, check), [str(path) for path in paths], told)

    def _ingest_rows(self, context: Context, events: Iterable[Any]) -> IngestSummary:
        from airflow_provider_polar.engine.ingesting.sources import rows_in_memory

        told = repr(_Events(events)) if isinstance(events, Sequence) else "events as they come"
        return self._ingest(context, rows_in_memory(events), [""], told)

    def _paths(self) -> list[ObjectStoragePath]:
        from airflow_provider_polar.engine.ingesting.rejected import is_rejected_file
        from airflow_provider_polar.engine.ingesting.sources import is_glob, matching

        if not str(self.source).strip():
            raise PolarConfigurationError("source has rendered to nothing; it is a path in object storage")
        path = storage_path(self.source, self.source_conn_id, "source")
        if not is_glob(str(path)):
            return [path]
        found = [ObjectStoragePath(name, conn_id=self.source_conn_id) for name in matching(path)]
        rejected = self._rejected_path()
        if rejected is None or rejected.protocol != path.protocol:
            return found
        rows = [one for one in found if not is_rejected_file(one.path, rejected.path)]
        if not rows:
            raise PolarConfigurationError(f"{path} matches nothing but files of rejected rows")
        return rows

    def _rejected_path(self) -> ObjectStoragePath | None:
        if self.rejected_path is None:
            return None
        return storage_path(self.rejected_path, self.rejected_conn_id, "rejected_path")

    def _ingest(self, context: Context, rows: Iterable[Row], sources: Sequence[str], told: str) -> IngestSummary:
        from airflow_provider_polar.engine.ingesting.ingest import Ingest
        from airflow_provider_polar.engine.ingesting.mapping import EventMapping
        from airflow_provider_polar.hooks.polar import PolarHook

        hook = PolarHook(self.polar_conn_id, requests_per_minute=self.requests_per_minute)
        try:
            scope, scope_in_words = self._scope(context)
            target = f"Polar (connection {self.polar_conn_id})"
            if not self.is_dry_run:  # which needs no connection
                target = f"Polar ({hook.settings.base_url}, connection {self.polar_conn_id})"
                show_events(context, hook.settings.environment)
            self.log.info(
                "Ingesting %s into %s; events without an external_id are told apart %s.", told, target, scope_in_words
            )
            ingest = Ingest(
                hook.get_conn,
                self._options(context, scope),
                rejected=self._rejected_path(),
                progress=_TaskProgress(context, self.log),
                target=target,
                log=self.log,
            )
            mapping = None if self.mapping is None else EventMapping(self.mapping)
            summary = ingest.run(rows, mapping=mapping, sources=sources)
            self._ingested = ([source for source in sources if source], summary.to_dict())
            return summary
        finally:
            hook.close()


class _TaskProgress:
    """Progress in the state that Airflow (from 3.3) keeps for a task through its retries; nothing before."""

    def __init__(self, context: Context, log: Any) -> None:
        self._store: Any = context.get("task_state_store")
        self._log = log

    def load(self) -> Any:
        return self._try("read", lambda: self._store.get(_PROGRESS))

    def save(self, state: dict[str, Any]) -> None:
        self._try("kept", lambda: self._store.set(_PROGRESS, state))

    def clear(self) -> None:
        self._try("cleared", lambda: self._store.delete(_PROGRESS))

    def _try(self, what: str, call: Any) -> Any:
        if self._store is None:
            return None
        try:
            return call()
        except Exception as error:  # an optimisation must not fail the task
            self._log.warning("The progress could not be %s (%s); this costs time only.", what, type(error).__name__)
            return None


def as_rows(events: Any, what: str) -> Iterable[Any]:
    """``events`` if it is an iterable of events.

    :raises PolarConfigurationError: for anything else, such as one event alone, or nothing.
    """
    if isinstance(events, Iterable) and not isinstance(events, (str, bytes, Mapping)):
        return events
    told = "None: the upstream task has returned nothing" if events is None else f"a {type(events).__name__}"
    raise PolarConfigurationError(f"{what} is {told}; it is a list of events")
