"""What the operators that load exports into tables share: manifests in, columns, lineage, asset events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.operators._checked import CheckedOperator
from airflow_provider_polar.operators._storage import check_path, storage_path
from airflow_provider_polar.parameters import Parser, one_of
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow_provider_polar.engine.loading.columns import Kind
    from airflow_provider_polar.engine.loading.load import Loaded
    from airflow_provider_polar.engine.loading.manifests import ExportedWindow

MODES = ("insert", "replace_window")
_MAX_LINEAGE = 100


class PolarLoadingOperator(CheckedOperator):
    """An operator that loads exported windows into a table, each of them whole or not at all.

    :param manifest: what is loaded: the path of a manifest, an export's result (``export.output``, with the windows
        that its look-back exported again), or a list of such (templated). Of exports in ``jsonl``, ``csv`` and
        ``parquet``, on a disk or in any object store.
    :param manifest_conn_id: Airflow connection of the store; None for the paths' own, or none (templated).
    :param mode: ``insert`` adds the events that are not there, and fails where the table has events of the window that
        the export has not; ``replace_window`` makes the window what the export says: what it no longer holds goes.
    :param exclude_fields: fields of the export that are not loaded, such as ``["customer"]``.
    :param metadata_columns: typed columns out of the metadata, ``{"distance": "double"}``; kinds are ``text``,
        ``timestamp``, ``bigint``, ``double``, ``boolean``, ``json``.
    """

    table: str
    template_fields: Sequence[str] = ("manifest", "manifest_conn_id", "mode", "exclude_fields", "metadata_columns")

    def __init__(
        self,
        *,
        manifest: Any,
        manifest_conn_id: str | None = None,
        mode: str = "insert",
        exclude_fields: Sequence[str] | None = None,
        metadata_columns: Mapping[str, Kind] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.manifest_conn_id = manifest_conn_id
        self.mode = mode
        self.exclude_fields = exclude_fields
        self.metadata_columns = metadata_columns

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "manifest": _manifests,
            "mode": one_of(*MODES),
            "exclude_fields": _excluded,
            "metadata_columns": _metadata_columns,
        }

    def _windows(self) -> Iterator[ExportedWindow]:
        """The windows that are to be loaded, in the order given, each read when it is its turn."""
        from airflow_provider_polar.engine.files.storage import Directory
        from airflow_provider_polar.engine.loading.manifests import ExportedWindow

        for number, given in enumerate(self._parsed("manifest")):
            path = storage_path(given, self.manifest_conn_id, "manifest")
            window = ExportedWindow.read(Directory(path.parent), path.name)
            if not window.manifest.complete:
                self.log.warning(
                    "%s says that its export is not complete: what is missing will be missing in the table", window.url
                )
            if number < _MAX_LINEAGE:
                self._report_input(window.url)
            yield window

    def _report_input(self, url: str) -> None:
        """Tells Airflow's lineage what is read."""
        # Imported late: on Airflow 3.0 it brings half of Airflow's core with it.
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        collector: Any = get_hook_lineage_collector()
        collector.add_input_asset(context=self, uri=url)

    def _result(self, loaded: Sequence[Loaded]) -> dict[str, Any]:
        """The task's result."""
        result = {
            "table": self.table,
            "windows": len(loaded),
            **{what: sum(getattr(one, what) for one in loaded) for what in ("rows", "inserted", "removed", "skipped")},
        }
        self.log.info(
            "%s holds %s of %s: %s new, %s removed, %s there already",
            self.table,
            number_of(result["rows"], "event"),
            number_of(len(loaded), "window"),
            f"{result['inserted']:,}",
            f"{result['removed']:,}",
            number_of(result["skipped"], "window"),
        )
        return result


def run_of(context: Any) -> str:
    """The run, as the record of what was loaded says it."""
    ti = context.get("ti")
    if ti is None:
        return ""
    mapped = f"[{ti.map_index}]" if ti.map_index >= 0 else ""
    return f"{ti.dag_id}.{ti.task_id}{mapped} {ti.run_id}"


def _manifests(value: Any, name: str) -> list[Any]:
    from airflow_provider_polar.engine.loading.manifests import manifest_paths

    paths = manifest_paths(value, name)
    for path in paths:
        check_path(path, name)
    return paths


def _excluded(value: Any, name: str) -> None:  # noqa: ARG001
    from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, EXTRA
    from airflow_provider_polar.engine.loading.columns import EventColumns

    EventColumns.choose((*EVENT_FIELDS, EXTRA), exclude_fields=value)


def _metadata_columns(value: Any, name: str) -> dict[str, Kind]:
    from airflow_provider_polar.engine.loading.columns import check_metadata_columns

    return check_metadata_columns(value, name)
