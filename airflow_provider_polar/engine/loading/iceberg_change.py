"""What the load of a window changes in an Iceberg table: data files that come, and data files that go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import BooleanExpression, IsNull, Not, Or
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import DataScan, FileScanTask, Table, TableProperties

from airflow_provider_polar.engine.loading.columns import EventColumns
from airflow_provider_polar.engine.loading.iceberg_history import within
from airflow_provider_polar.engine.loading.iceberg_table import arrow_schema
from airflow_provider_polar.engine.loading.id_sets import IdSets
from airflow_provider_polar.engine.loading.load import Loaded, Mode
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.exceptions import PolarTableError
from airflow_provider_polar.wording import number_of

_ROWS_AT_ONCE = 10_000
_FILE_BYTES = 64 << 20
"""Bytes in memory of the events that become one data file."""
_SHOWN = 5


class WindowChange:
    """The change of one window, written ahead: no reader sees a data file that no snapshot names.

    The change stands for any later state of the table whose data files of the window are the same, so that a commit
    that another one has beaten is tried again without writing anything twice.

    :param table: as it is now.
    """

    def __init__(self, table: Table, exported: ExportedWindow, columns: EventColumns) -> None:
        self._table = table
        self._exported = exported
        self._columns = columns
        self._within = within(exported.manifest.window)
        self._tasks = list(table.scan(row_filter=self._within).plan_files())
        self._base = self._state(table, self._tasks)
        self._coming: list[DataFile] = []
        self._going: list[FileScanTask] = []

    def fits(self, table: Table) -> bool:
        """Whether a newer state of the table has the same of the window."""
        return self._state(table, table.scan(row_filter=self._within).plan_files()) == self._base

    @staticmethod
    def _state(table: Table, tasks: Iterable[FileScanTask]) -> tuple[object, ...]:
        files = {file.file_path for task in tasks for file in (task.file, *task.delete_files)}
        return table.metadata.table_uuid, table.schema().schema_id, table.spec().spec_id, files

    def write(self, mode: Mode, new_fields: set[str]) -> Loaded:
        """Writes the data files, and proves that with them the window is what the manifest says.

        :param new_fields: is told the fields beyond those that are known.
        :raises PolarTableError: it would not be.
        """
        with IdSets("there", "due", "result") as ids:
            before = self._read_window(ids, mode)
            self._coming += self._files_of(self._due(ids, mode, new_fields))
            self._prove(ids)
            common = ids.common("there", "due")
            return Loaded(self._exported.manifest.rows, ids.size("due") - common, before - common)

    def commit(self, table: Table, said: Mapping[str, str]) -> None:
        """Commits the change as one snapshot.

        :param table: the newest state, which the change fits.
        :param said: the snapshot's properties.
        :raises CommitFailedException: another commit came first.
        """
        # By itself PyIceberg would try again with what it has, though another load of the window came first.
        # The property is changed in memory only.
        properties = {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}
        table.metadata = table.metadata.model_copy(update={"properties": properties})
        transaction = table.transaction()
        update = transaction.update_snapshot(snapshot_properties=dict(said))
        with update.overwrite() if self._going else update.merge_append() as snapshot:
            for task in self._going:
                snapshot.delete_data_file(task.file)
            for file in self._coming:
                snapshot.append_data_file(file)
        staged = DataScan(transaction.table_metadata, table.io, row_filter=self._within, selected_fields=("id",))
        if (rows := staged.count()) != self._exported.manifest.rows:
            raise self._differs([f"{number_of(rows, 'row')}"])
        coming, self._coming = self._coming, []  # from here on the table may have them
        try:
            transaction.commit_transaction()
        except CommitFailedException:
            self._coming = coming
            raise

    def discard(self) -> None:
        """Removes what was written and not committed."""
        for file in self._coming:
            with suppress(Exception):  # what stays is an orphan, which no reader sees
                self._table.io.delete(file.file_path)
        self._coming = []

    def _read_window(self, ids: IdSets, mode: Mode) -> int:
        """Reads the ids that the table has of the window, and rewrites what shares a file with it; how many rows."""
        before = 0
        for task in self._tasks:
            rows = sum(self._add_ids(ids, "there", task))
            before += rows
            if rows and mode == "replace_window":
                self._going.append(task)
                if rows < task.file.record_count:
                    rest = Or(IsNull(term="timestamp"), Not(self._within))
                    self._coming += self._files_of(self._read(task, rest))
        return before

    def _due(self, ids: IdSets, mode: Mode, new_fields: set[str]) -> Iterator[pa.RecordBatch]:
        """The window's events that have to come."""
        schema, at = arrow_schema(self._columns.columns), self._columns.names.index("id")
        rows = self._columns.rows(self._exported.events(), new_fields)
        some_there = mode == "insert" and ids.size("there") > 0
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            ids.add("due", (row[at] for row in some))
            if some_there:
                some = [row for row in some if not ids.has("there", row[at])]
            if some:
                columns = zip(zip(*some, strict=True), schema.types, strict=True)
                yield pa.record_batch([pa.array(values, type_) for values, type_ in columns], schema=schema)

    def _files_of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[DataFile]:
        """Writes batches to data files, not many of them in memory at once."""
        some: list[pa.RecordBatch] = []
        for batch in batches:
            some.append(batch)
            if sum(one.nbytes for one in some) >= _FILE_BYTES:
                yield from self._write(some)
                some = []
        if some:
            yield from self._write(some)

    def _write(self, batches: list[pa.RecordBatch]) -> Iterator[DataFile]:
        for file in _dataframe_to_data_files(self._table.metadata, pa.Table.from_batches(batches), self._table.io):
            file.spec_id = self._table.spec().spec_id  # needed to read it before it is committed
            yield file

    def _read(self, task: FileScanTask, rows: BooleanExpression, *columns: str) -> Iterator[pa.RecordBatch]:
        """Reads a data file; its columns lie in memory as a whole."""
        schema = self._table.schema()
        scan = ArrowScan(self._table.metadata, self._table.io, schema.select(*columns) if columns else schema, rows)
        yield from (batch for batch in scan.to_record_batches([task]) if batch.num_rows)

    def _add_ids(self, ids: IdSets, name: str, task: FileScanTask) -> Iterator[int]:
        for batch in self._read(task, self._within, "id"):
            ids.add(name, batch.column("id").to_pylist())
            yield batch.num_rows

    def _prove(self, ids: IdSets) -> None:
        """Reads the window as it will be, from the data files that stay and those that come."""
        gone = {task.file.file_path for task in self._going}
        staying = [task for task in self._tasks if task.file.file_path not in gone]
        coming = [FileScanTask(file) for file in self._coming]
        rows = sum(sum(self._add_ids(ids, "result", task)) for task in (*staying, *coming))
        expected, distinct, common = self._exported.manifest.rows, ids.size("result"), ids.common("result", "due")
        wrong = []
        if others := ids.only_in("result", "due", _SHOWN + 1):
            wrong.append(
                f"{distinct - common:,} events that the manifest does not have "
                f"({', '.join(others[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''}), which mode='replace_window' "
                "removes"
            )
        if rows > distinct:
            wrong.append(f"{number_of(rows - distinct, 'row')} more than ids")
        if common != expected:
            wrong.append(f"{common:,} of the manifest's {number_of(expected, 'event')}")
        if wrong:
            raise self._differs(wrong)

    def _differs(self, wrong: list[str]) -> PolarTableError:
        return PolarTableError(
            f"after the load of {self._exported.url} the table {'.'.join(self._table.name())} would hold, in "
            f"{self._exported.manifest.window}, {'; '.join(wrong)}. The table is as it was"
        )
