"""The ``csv`` format."""

from __future__ import annotations

import csv
import io
import re
from typing import IO

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import StreamError
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.streams import CheckColumns, LineWriter, Rows, extra_object, gathered, one_line

_QUOTED = re.compile(rb'[",\r\n]')
_MAX_CELL = 16 << 20


def writer(raw: IO[bytes], fields: FieldChoice, compression: str | None) -> LineWriter:
    """Writes events to a stream as RFC 4180 rows in UTF-8, each ended by a line feed, after one with the columns.

    Null is an empty cell, empty text is ``""``, nested values are JSON text, booleans ``true`` and ``false``.
    """

    def cell(raw: bytes) -> bytes:
        if raw == b"null":
            return b""
        text = msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else one_line(raw)
        return b'"' + text.replace(b'"', b'""') + b'"' if not text or _QUOTED.search(text) else text

    def encode(row: EventRow) -> bytes:
        values = row.values
        cells = [cell(bytes(values[name])) if name in values else b"" for name in fields.known]
        if fields.extra:
            cells.append(cell(extra_object(row) or b"null"))
        # A line without a byte would be no row to most readers.
        return (b",".join(cells) or b'""') + b"\n"

    return LineWriter(raw, encode, compression, ",".join(fields.columns).encode() + b"\n")


def read(data: IO[bytes], check: CheckColumns) -> Rows:
    """The rows of a stream: values are text, and an empty cell is no value."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    reader = csv.reader(io.TextIOWrapper(data, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) != len(header):
            raise StreamError(f"two columns have one name: {', '.join(header)}")
        check(header, True)
        for cells in reader:
            if cells and len(cells) == len(header):
                yield reader.line_num, *gathered(dict(zip(header, (cell or None for cell in cells), strict=True)))
            elif cells:
                yield reader.line_num, cells, f"has {len(cells)} cells, the header has {len(header)}"
    except csv.Error as error:
        raise StreamError(f"line {reader.line_num}: {error}") from None
