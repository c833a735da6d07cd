"""The ``parquet`` format, for which pyarrow is needed (extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import StreamError
from airflow_provider_polar.engine.files.fields import EXTRA, FieldChoice
from airflow_provider_polar.engine.files.packages import installed
from airflow_provider_polar.engine.files.streams import CheckColumns, Rows, RowWriter, extra_object, gathered
from airflow_provider_polar.exceptions import PolarConfigurationError

_ROW_GROUP = 10_000
_ROWS_AT_ONCE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TWO_TO_63 = 1 << 63
_JSON_TEXT = ("customer", "metadata")


def read(data: IO[bytes], check: CheckColumns) -> Rows:
    """The rows of a stream.

    A null inside a struct is a key that is not there: a struct column has the keys of all its rows.
    """
    parquet = installed("pyarrow.parquet", "parquet", "reading parquet files")
    from pyarrow import ArrowException

    number = 0
    try:
        file = parquet.ParquetFile(data)
        check(file.schema_arrow.names, True)
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                number += 1
                yield number, *gathered(_without_nulls(row))
    except (ArrowException, KeyError) as error:  # KeyError: a key that a map has twice
        raise StreamError(str(error)) from None


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {
        column: {key: v for key, v in value.items() if v is not None} if isinstance(value, Mapping) else value
        for column, value in row.items()
    }


def _schema(fields: FieldChoice) -> Any:
    """The fixed Arrow schema: ``timestamp`` in UTC microseconds, ``child_count`` 64-bit, everything else text.

    ``customer``, ``metadata`` and ``extra`` are JSON text.
    """
    import pyarrow as pa

    types = {"timestamp": pa.timestamp("us", tz="UTC"), "child_count": pa.int64()}
    required = ("id", "timestamp")
    return pa.schema([pa.field(c, types.get(c, pa.string()), nullable=c not in required) for c in fields.columns])


def _text(raw: bytes | msgspec.Raw | None, *, as_json: bool = False) -> str | None:
    text = b"null" if raw is None else bytes(raw)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') and not as_json else text.decode()


def _integer(row: EventRow, name: str) -> int | None:
    try:
        value = row.get(name)
    except msgspec.ValidationError:
        value = "beyond any number"
    if value is None:
        return None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or not -_TWO_TO_63 <= whole < _TWO_TO_63:
        raise PolarConfigurationError(
            f"the {name} of event {row.id} is no 64-bit integer, and a parquet column holds nothing else: export with "
            f"exclude_fields=['{name}'], or as jsonl or csv"
        )
    return whole


class ParquetWriter(RowWriter):
    """Writes events to a parquet file, in row groups of 10,000.

    :param compression: codec inside the file: gzip, zstd, or None for parquet's usual snappy.
    """

    def __init__(self, raw: IO[bytes], fields: FieldChoice, compression: str | None) -> None:
        import pyarrow.parquet as pq

        self._fields = fields
        self._schema = _schema(fields)
        self._writer = pq.ParquetWriter(raw, self._schema, compression=compression or "snappy")
        self._rows: list[EventRow] = []

    def write(self, row: EventRow) -> int:
        """Writes one event; returns its size in bytes as JSON values."""
        self._rows.append(row)
        if len(self._rows) >= _ROW_GROUP:
            self._flush()
        return sum(len(memoryview(raw)) for name, raw in row.values.items() if self._fields.keeps(name))

    def _column(self, name: str) -> list[Any]:
        if name == "timestamp":
            return [(row.timestamp - _EPOCH) // _MICROSECOND for row in self._rows]
        if name == EXTRA:
            return [_text(extra_object(row), as_json=True) for row in self._rows]
        if name == "child_count":
            return [_integer(row, name) for row in self._rows]
        return [_text(row.values.get(name), as_json=name in _JSON_TEXT) for row in self._rows]

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            arrays = [pa.array(self._column(field.name), type=field.type) for field in self._schema]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=_ROW_GROUP)
            self._rows.clear()

    def close(self) -> None:
        try:
            self._flush()
            self._writer.close()
        finally:
            # Else it tries again when it is collected, on a file that is closed.
            self._writer.is_open = False
