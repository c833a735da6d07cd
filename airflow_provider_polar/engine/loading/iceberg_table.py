"""An Iceberg table of events: created if it is missing, checked, and given the columns that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from airflow_provider_polar.engine.loading.columns import Column, Kind
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import PolarTableError

_TYPES: dict[Kind, tuple[IcebergType, pa.DataType]] = {
    "text": (StringType(), pa.string()),
    "timestamp": (TimestamptzType(), pa.timestamp("us", tz="UTC")),
    "bigint": (LongType(), pa.int64()),
    "double": (DoubleType(), pa.float64()),
    "boolean": (BooleanType(), pa.bool_()),
    "json": (StringType(), pa.string()),
}
_PROPERTIES = {TableProperties.MANIFEST_MIN_MERGE_COUNT: "10"}
"""Each load reads the table's manifests, and adds one: more often than by default they are made one again."""


def type_of(column: Column) -> IcebergType:
    """The type of a column in the table."""
    return _TYPES[column.kind][0]


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The columns as Arrow has them on their way."""
    return pa.schema([pa.field(one.name, _TYPES[one.kind][1], nullable=not one.required) for one in columns])


class EventTable:
    """A table in an Iceberg catalogue, of which each load takes the newest state.

    :param name: namespace and table.
    :param where: the catalogue, in words.
    """

    def __init__(self, catalog: Catalog, name: TableName, where: str, logger: Any) -> None:
        self._catalog = catalog
        self._name = name
        self._where = where
        self._log = logger

    def newest(self, columns: Sequence[Column]) -> Table:
        """The table as it is now, with all the columns.

        Columns that it lacks are added by a commit of their own, which readers see as columns without values.

        :raises PolarTableError: a column is of another type, or one of its own must have a value.
        :raises pyiceberg.exceptions.CommitFailedException: another commit came first, to be tried again.
        """
        try:
            table = self._catalog.load_table(self._name.parts)
        except NoSuchTableError:
            table = self._create(columns)
        self._check(table, columns)
        if missing := [column for column in columns if column.name not in table.schema().column_names]:
            self._log.info("adding columns to %s: %s", self._name, ", ".join(column.name for column in missing))
            with table.update_schema() as update:
                for column in missing:
                    update.add_column((column.name,), type_of(column))
        return table

    def _create(self, columns: Sequence[Column]) -> Table:
        namespace = self._name.parts[:-1]
        try:
            self._catalog.create_namespace_if_not_exists(namespace)
        except Exception:
            if not self._catalog.namespace_exists(namespace):  # else another load was faster
                raise
        fields = [NestedField(n, one.name, type_of(one), required=one.required) for n, one in enumerate(columns, 1)]
        table = self._catalog.create_table_if_not_exists(self._name.parts, Schema(*fields), properties=_PROPERTIES)
        self._log.info("created the table %s in %s", self._name, self._where)
        return table

    def _check(self, table: Table, columns: Sequence[Column]) -> None:
        found, own, wrong = {field.name: field for field in table.schema().fields}, set[str](), []
        for column in columns:
            own.add(column.name)
            field = found.get(column.name)
            if field is not None and field.field_type != type_of(column):
                wrong.append(
                    f"its column {column.name!r} is {field.field_type}, which does not hold every {column.kind}: it "
                    f"has to be {type_of(column)}"
                )
            elif field is None and column.required:
                wrong.append(f"it has no column {column.name!r}: it is no table of events")
        lacking = [field for name, field in found.items() if name not in own]
        wrong += [
            f"its column {one.name!r} must have a value, and the export has none" for one in lacking if one.required
        ]
        if wrong:
            raise PolarTableError(f"the table {self._name} in {self._where} cannot be loaded: {'; '.join(wrong)}")
        if lacking:
            self._log.info("columns that this load does not fill: %s", ", ".join(one.name for one in lacking))
