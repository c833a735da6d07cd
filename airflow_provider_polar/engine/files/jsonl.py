"""The ``jsonl`` format: one JSON object a line."""

from __future__ import annotations

import codecs
from typing import IO

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.streams import (
    KNOWN,
    LineWriter,
    Rows,
    extra_fields,
    json_value,
    of_objects,
    one_line,
)


def writer(raw: IO[bytes], fields: FieldChoice, compression: str | None) -> LineWriter:
    """Writes events to a stream, as the API's own JSON objects, values untouched, keys in one order."""
    prefixes = [(name, msgspec.json.encode(name) + b":") for name in fields.known]
    keep_extra = fields.extra

    def encode(row: EventRow) -> bytes:
        values = row.values
        parts = [prefix + values[name] for name, prefix in prefixes if name in values]
        if keep_extra and not KNOWN.issuperset(values):
            parts += [msgspec.json.encode(name) + b":" + raw for name, raw in extra_fields(row)]
        return one_line(b"{" + b",".join(parts) + b"}") + b"\n"

    return LineWriter(raw, encode, compression)


@of_objects
def read(data: IO[bytes]) -> Rows:
    """The rows of a stream."""
    # Not every file that Airflow opens can be iterated over: those of 3.0 have no __iter__.
    for number, line in enumerate(iter(data.readline, b""), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        yield number, *json_value(line)
