"""The load of exported windows into a table: one transaction a window, and nothing of a window before all of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_polar.engine.loading.columns import Column, EventColumns, Kind
from airflow_provider_polar.engine.loading.database import Database, P, TableFacts
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.record import LoadRecord, filters_text
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import PolarTableError
from airflow_provider_polar.wording import number_of

Mode = Literal["insert", "replace_window"]
_SHOWN = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the load of a window did.

    :param rows: events of the window.
    :param inserted: of these, the ones that were not there.
    :param removed: events that the window no longer holds.
    :param skipped: whether it was there already, by this manifest.
    """

    rows: int
    inserted: int = 0
    removed: int = 0
    skipped: bool = False


class TableLoad:
    """Loads exported windows into a table, creating it if it is missing.

    :param database: where the table is.
    :param table: its name as given; with its schema once it was looked at.
    :param mode: ``insert`` adds events that are not there; ``replace_window`` also takes those away that a window no
        longer holds, and renews the others.
    :param run: what loads, for ``polar_loads``.
    :param exclude_fields: fields of the exports that are not loaded.
    :param metadata_columns: typed columns out of the metadata.
    """

    def __init__(
        self,
        database: Database,
        table: TableName,
        *,
        mode: Mode = "insert",
        run: str = "",
        exclude_fields: Sequence[str] | None = None,
        metadata_columns: Mapping[str, Kind] | None = None,
        logger: Any = log,
    ) -> None:
        self._database = database
        self.table = table
        self._mode = mode
        self._run = run
        self._exclude_fields = exclude_fields
        self._metadata_columns = metadata_columns
        self._log = logger
        self._not_filled: list[str] = []

    def load(self, exported: ExportedWindow) -> Loaded:
        """Loads a window whole, or leaves the table as it is.

        :raises PolarTableError: the table is not what is needed, or holds other events of the window than the
            manifest; a retry does not help.
        :raises PolarDatabaseError: the database failed; a retry may help.
        :raises PolarSourceError: a file is not what the manifest says; a retry helps once it is exported again.
        :raises PolarDestinationError: the store of the files does not respond; a retry may help.
        :raises PolarConfigurationError: the export has no metadata to take columns from; a retry does not help.
        """
        columns = EventColumns.choose(
            exported.manifest.fields, exclude_fields=self._exclude_fields, metadata_columns=self._metadata_columns
        )
        known = {*columns.names, *self.table.parts, "polar_loads", "polar_stage"}
        try:
            with self._database.telling(f"load {exported.manifest.window} into the table {self.table}", known):
                self.table = self._ready(columns).name
                window = _WindowLoad(self._database, self.table, exported, columns)
                if window.is_there():
                    self._database.commit()
                    return self._skipped(exported)
                return self._load(window)
        except BaseException:
            self._database.rollback()
            raise
        finally:
            self._database.unstage()

    def _ready(self, columns: EventColumns) -> TableFacts:
        """The table, checked, or created where it is missing."""
        facts = self._database.describe(self.table)
        if facts is None or self._database.describe(facts.name.beside("polar_loads")) is None:
            self._hold("the tables of Polar's events")
            if (facts := self._database.describe(self.table)) is None:
                self._database.create(self.table, columns.columns)
                self._log.info("created the table %s in %s", self.table, self._database.where)
            facts = facts or self._database.describe(self.table) or TableFacts(self.table, {})
            LoadRecord(self._database, facts.name).create_if_missing()
            self._database.commit()
        self._check(facts, columns)
        return facts

    def _check(self, facts: TableFacts, columns: EventColumns) -> None:
        found = {self._database.folded(name): type_ for name, type_ in facts.columns.items()}
        wrong = []
        for column in columns.columns:
            name = self._database.folded(column.name)
            if name not in found:
                wrong.append(self._missing(column))
            elif not self._database.accepts(column, found[name]):
                wrong.append(
                    f"its column {column.name!r} is {found[name]}, which does not hold every {column.kind}: it has to "
                    f"be {self._database.type_of(column)}"
                )
        if wrong:
            raise PolarTableError(
                f"the table {facts.name} in {self._database.where} cannot be loaded: {'; '.join(wrong)}"
            )
        own = {self._database.folded(name) for name in columns.names}
        not_filled = [column for column in facts.columns if self._database.folded(column) not in own]
        if not_filled != self._not_filled:
            self._log.info("columns that this load does not fill: %s", ", ".join(not_filled) or "none")
            self._not_filled = not_filled

    def _missing(self, column: Column) -> str:
        quote = self._database.quote
        add = f"ALTER TABLE {quote(self.table)} ADD COLUMN {quote(column.name)} {self._database.type_of(column)}"
        leave = (
            "" if column.of_metadata or column.required else f", or leave it out by exclude_fields=[{column.name!r}]"
        )
        return f"it has no column {column.name!r}: {add}{leave}"

    def _hold(self, lock: str) -> None:
        if not self._database.hold(lock, wait=False):
            self._log.info("waiting for another load of %s in %s", self.table, self._database.where)
            self._database.hold(lock, wait=True)

    def _load(self, window: _WindowLoad) -> Loaded:
        exported, new_fields = window.exported, set[str]()
        window.stage(new_fields)
        self._hold(str(window.table))
        if window.is_there():  # another load was faster
            self._database.rollback()
            return self._skipped(exported)
        loaded = window.merge(self._mode)
        window.record.add(exported, self._run)
        self._database.commit()
        if new_fields:
            self._tell_of(new_fields, exported)
        self._log.info(
            "loaded %s of %s into %s: %s new, %s removed",
            number_of(loaded.rows, "event"),
            exported.manifest.window,
            window.table,
            f"{loaded.inserted:,}",
            f"{loaded.removed:,}",
        )
        return loaded

    def _skipped(self, exported: ExportedWindow) -> Loaded:
        self._log.info("%s is in %s already, by this manifest", exported.manifest.window, self.table)
        return Loaded(exported.manifest.rows, skipped=True)

    def _tell_of(self, new_fields: set[str], exported: ExportedWindow) -> None:
        left_out = "extra" in (self._exclude_fields or ())
        self._log.warning(
            "events of %s have fields that this version does not know: %s; they are %s",
            exported.manifest.window,
            ", ".join(sorted(new_fields)),
            "left out, as exclude_fields says" if left_out else "in the column extra",
        )


class _WindowLoad:
    """One window on its way into a table.

    :param table: with its schema.
    """

    def __init__(self, database: Database, table: TableName, exported: ExportedWindow, columns: EventColumns) -> None:
        self.table = table
        self.exported = exported
        self.record = LoadRecord(database, table)
        self._database = database
        self._columns = columns
        self._stage = ""
        moment = database.quote("timestamp")
        self._in_window = f"{moment} >= {P} AND {moment} < {P}"
        self._of_table = f"t.{moment} >= {P} AND t.{moment} < {P}"
        self._bounds = [exported.manifest.window.start, exported.manifest.window.end]
        self._of = database.quote(table)
        self._id = database.quote("id")

    def is_there(self) -> bool:
        """Whether the table holds the window by this manifest, as far as a count can tell."""
        if not self.record.holds(self.exported):
            return False
        # Somebody may have dropped or emptied the table since.
        ((count,),) = self._database.run(
            f"SELECT count(*) AS n FROM {self._of} WHERE {self._in_window}",
            self._bounds,
        )
        return bool(count == self.exported.manifest.rows)

    def stage(self, new_fields: set[str]) -> None:
        """Puts the window's events into a table of this session's own.

        :param new_fields: is told the fields beyond those that are known.
        """
        rows = self._columns.rows(self.exported.events(), new_fields)
        self._stage = self._database.stage(self.table, self._columns.columns, rows)
        ((rows_staged, ids),) = self._database.run(
            f"SELECT count(*) AS n, count(DISTINCT {self._id}) AS ids FROM {self._stage}"
        )
        if not rows_staged == ids == self.exported.manifest.rows:
            raise PolarTableError(
                f"the files of {self.exported.url} hold {rows_staged:,} events with {ids:,} ids, the manifest says "
                f"{self.exported.manifest.rows:,}: export the window again"
            )

    def merge(self, mode: Mode) -> Loaded:
        """Brings the stage into the table, and proves that the window is what the manifest says."""
        self._check_filters()
        before, common, _ = self._counts()
        columns = self._database.listed(self._columns.columns)
        staged = f"SELECT {self._database.listed(self._columns.columns, 's.')} FROM {self._stage} s"
        if mode == "replace_window":
            self._database.run(f"DELETE FROM {self._of} WHERE {self._in_window}", self._bounds)
            self._database.run(f"INSERT INTO {self._of} ({columns}) {staged}")
        else:
            self._database.run(
                f"INSERT INTO {self._of} ({columns}) {staged} WHERE NOT EXISTS "
                f"(SELECT 1 FROM {self._of} t WHERE t.{self._id} = s.{self._id} AND {self._of_table})",
                self._bounds,
            )
        rows = self.exported.manifest.rows
        if (rows, rows, rows) != (after := self._counts()):
            raise self._differs(after)
        return Loaded(rows, rows - common, before - common)

    def _counts(self) -> tuple[int, int, int]:
        """Of the table's rows in the window: how many, how many that the stage has too, how many ids."""
        ((rows, common, ids),) = self._database.run(
            f"SELECT count(*) AS n, count(s.{self._id}) AS common, count(DISTINCT t.{self._id}) AS ids "
            f"FROM {self._of} t LEFT JOIN {self._stage} s ON s.{self._id} = t.{self._id} WHERE {self._of_table}",
            self._bounds,
        )
        return rows, common, ids

    def _differs(self, counts: tuple[int, int, int]) -> PolarTableError:
        rows, common, ids = counts
        others = self._database.run(
            f"SELECT min(t.{self._id}) AS id FROM {self._of} t LEFT JOIN {self._stage} s "
            f"ON s.{self._id} = t.{self._id} WHERE {self._of_table} AND s.{self._id} IS NULL GROUP BY t.{self._id}",
            self._bounds,
            most=_SHOWN + 1,
        )
        found = []
        if rows > common:
            some = ", ".join(str(id_) for (id_,) in others[:_SHOWN])
            found.append(
                f"{number_of(rows - common, 'event')} that the manifest does not have ({some}"
                f"{', ...' if len(others) > _SHOWN else ''}), which mode='replace_window' removes"
            )
        if rows > ids:
            found.append(f"{number_of(rows - ids, 'row')} more than ids: give its column id a unique index")
        if missing := self.exported.manifest.rows - min(common, ids):
            found.append(f"{missing:,} too few of the manifest's: something else changes the table, or a trigger does")
        return PolarTableError(
            f"after the load of {self.exported.url} the table {self.table} in {self._database.where} would hold, in "
            f"{self.exported.manifest.window}, {'; '.join(found)}. The table is as it was"
        )

    def _check_filters(self) -> None:
        own, there = filters_text(self.exported), self.record.filters()
        if there in (None, own):
            return
        if self._database.run(f"SELECT count(*) AS n FROM {self._of}")[0][0]:
            raise PolarTableError(
                f"the table {self.table} in {self._database.where} holds exports with the filters {there}, "
                f"{self.exported.url} has {own}: what it has to hold of a window could not be told any more. "
                "Load them into a table of their own; a view can unite the two"
            )
