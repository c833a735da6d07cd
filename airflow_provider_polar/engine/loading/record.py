"""``polar_loads``: which windows a table holds, by which manifest, since when, and by which run."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from airflow_provider_polar.engine.loading.database import Database, P
from airflow_provider_polar.engine.loading.failures import is_a
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import PolarDatabaseError

TABLE = "polar_loads"
_COLUMNS = (
    "destination",
    "number",
    "window_start",
    "window_end",
    "filters",
    "manifest",
    "manifest_sha256",
    "rows",
    "loaded_at",
    "run",
)


class LoadRecord:
    """The rows of ``polar_loads`` for one table, in its schema; each load adds one and none is ever changed.

    Their numbers are unique for a table, so that of two loads at once only one commits, whatever the database.

    :param table: with its schema.
    """

    def __init__(self, database: Database, table: TableName) -> None:
        self._database = database
        self._destination = str(table)
        self._table = table.beside(TABLE)
        self._of = database.quote(self._table)
        self._q = database.quote

    def create_if_missing(self) -> None:
        """Creates the table; the caller commits."""
        if self._database.describe(self._table) is not None:
            return
        types = self._database.types
        of_kinds = [
            (self._database.key_type, ("destination",)),
            (types["bigint"], ("number", "rows")),
            (types["timestamp"], ("window_start", "window_end", "loaded_at")),
        ]
        of = {name: type_ for type_, names in of_kinds for name in names}
        defined = [f"{self._q(name)} {of.get(name, types['text'])} NOT NULL" for name in _COLUMNS]
        key = f"PRIMARY KEY ({self._q('destination')}, {self._q('number')})"
        self._database.run(f"CREATE TABLE {self._of} ({', '.join(defined)}, {key})")

    def filters(self) -> str | None:
        """The filters of the exports that were loaded last, as JSON text; None where nothing was loaded."""
        destination, number = self._q("destination"), self._q("number")
        rows = self._database.run(
            f"SELECT {self._q('filters')} FROM {self._of} WHERE {destination} = {P} AND {number} = "
            f"(SELECT max({number}) FROM {self._of} WHERE {destination} = {P})",
            [self._destination] * 2,
        )
        return rows[0][0] if rows else None

    def holds(self, exported: ExportedWindow) -> bool:
        """Whether the load that last touched a window was of this very manifest."""
        window = exported.manifest.window
        start, end, number = map(self._q, ("window_start", "window_end", "number"))
        rows = self._database.run(
            f"SELECT {self._q('manifest_sha256')}, "
            f"CASE WHEN {start} = {P} AND {end} = {P} THEN 1 ELSE 0 END AS same FROM {self._of} "
            f"WHERE {self._q('destination')} = {P} AND {start} < {P} AND {end} > {P} AND {number} = ("
            f"SELECT max({number}) FROM {self._of} "
            f"WHERE {self._q('destination')} = {P} AND {start} < {P} AND {end} > {P})",
            [window.start, window.end, *[self._destination, window.end, window.start] * 2],
        )
        return rows == [(exported.sha256, 1)]

    def add(self, exported: ExportedWindow, run: str) -> None:
        """Says that a window was loaded, in the transaction that does it.

        :raises PolarDatabaseError: another load has committed meanwhile; a retry helps.
        """
        manifest = exported.manifest
        (last,) = self._database.run(
            f"SELECT max({self._q('number')}) AS last FROM {self._of} WHERE {self._q('destination')} = {P}",
            [self._destination],
        )
        values = (
            self._destination,
            (last[0] or 0) + 1,
            manifest.window.start,
            manifest.window.end,
            filters_text(exported),
            exported.url,
            exported.sha256,
            manifest.rows,
            datetime.now(UTC),
            run,
        )
        names, marks = ", ".join(map(self._q, _COLUMNS)), ", ".join([P] * len(_COLUMNS))
        try:
            self._database.run(f"INSERT INTO {self._of} ({names}) VALUES ({marks})", values)
        except Exception as error:
            if not is_a("IntegrityError", error):
                raise
            raise PolarDatabaseError(
                f"another load of {self._destination} in {self._database.where} was faster: a retry loads "
                f"{manifest.window} after it. The table is as it was"
            ) from None


def filters_text(exported: ExportedWindow) -> str:
    """An export's filters as JSON text, the same for the same."""
    return json.dumps(exported.manifest.filters, sort_keys=True)
