"""What the snapshots of an Iceberg table say of the windows that were loaded into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.table import Table

from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.record import filters_text
from airflow_provider_polar.engine.window import EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarTableError

_START, _END = "polar.window-start", "polar.window-end"
_SHA256, _FILTERS = "polar.manifest-sha256", "polar.filters"


def said_of(exported: ExportedWindow, run: str) -> dict[str, str]:
    """The properties of the snapshot that a window is loaded by."""
    window = exported.manifest.window
    return {
        _START: moment_text(window.start),
        _END: moment_text(window.end),
        _FILTERS: filters_text(exported),
        "polar.manifest": exported.url,
        _SHA256: exported.sha256,
        "polar.rows": str(exported.manifest.rows),
        "polar.run": run,
    }


def holds(table: Table, exported: ExportedWindow) -> bool:
    """Whether the load that last touched a window was of this very manifest, as far as a count can tell."""
    own, by_others = exported.manifest.window, False
    for said in _snapshots(table):
        if _SHA256 not in said:
            by_others = True
            continue
        window = EventWindow(aware(said[_START], _START), aware(said[_END], _END))
        if window.start < own.end and own.start < window.end:
            same = (said[_SHA256], window) == (exported.sha256, own)
            # Others may have deleted rows since.
            return same and (not by_others or _count(table, own) == exported.manifest.rows)
    return False


def check_filters(table: Table, exported: ExportedWindow, where: str) -> None:
    """Refuses exports with other filters than those that the table has.

    :param where: the catalogue, in words.
    :raises PolarTableError: it has others, and is not empty.
    """
    own = filters_text(exported)
    there = next((said[_FILTERS] for said in _snapshots(table) if _FILTERS in said), own)
    if there != own and next(iter(table.scan().plan_files()), None) is not None:
        raise PolarTableError(
            f"the table {'.'.join(table.name())} in {where} holds exports with the filters {there}, {exported.url} has "
            f"{own}: what it has to hold of a window could not be told any more. Load them into a table of their own"
        )


def within(window: EventWindow) -> BooleanExpression:
    """The rows of a window."""
    return And(
        GreaterThanOrEqual(term="timestamp", value=window.start.isoformat()),
        LessThan(term="timestamp", value=window.end.isoformat()),
    )


def _snapshots(table: Table) -> Iterator[Mapping[str, str]]:
    """What the snapshots that led to the current one say, newest first; those of other writers say nothing of ours."""
    # The table's own look-up of a snapshot goes through all of them.
    snapshots = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    at = table.current_snapshot()
    while at is not None:
        yield at.summary.additional_properties if at.summary else {}
        at = snapshots.get(at.parent_snapshot_id or 0)


def _count(table: Table, window: EventWindow) -> int:
    return table.scan(row_filter=within(window), selected_fields=("id",)).count()
