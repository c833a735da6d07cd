"""JSON text, and the rows of JSON: what the formats have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, Any

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS
from airflow_provider_polar.engine.files.streams import CheckColumns, Reader, Rows

KNOWN = frozenset(EVENT_FIELDS)
_FIRST_ROWS = 1000
_SHOWN = 500
_LINE = msgspec.json.Decoder()


def extra_fields(row: EventRow) -> list[tuple[str, msgspec.Raw]]:
    """What an event has beyond the known fields, sorted by name."""
    return sorted((name, raw) for name, raw in row.values.items() if name not in KNOWN)


def one_line(json_text: bytes) -> bytes:
    """JSON on one line; Polar writes it so already."""
    return msgspec.json.format(json_text, indent=-1) if b"\n" in json_text or b"\r" in json_text else json_text


def extra_object(row: EventRow) -> bytes | None:
    """The fields beyond the known ones as one JSON object, None where there are none."""
    extra = extra_fields(row)
    if not extra:
        return None
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in extra) + b"}"


def json_value(line: bytes) -> tuple[Any, str | None]:
    """A value, or what there is of it and why it could not be read."""
    try:
        return _LINE.decode(line), None
    except (ValueError, RecursionError):
        pass
    # Python's own decoder takes what the fast one refuses, NaN and half surrogate pairs: the value is told then.
    try:
        return json.loads(line.decode()), None
    except UnicodeDecodeError:
        return line[:_SHOWN].decode(errors="replace"), "is not UTF-8"
    except (ValueError, RecursionError) as error:
        return line[:_SHOWN].decode(errors="replace").rstrip("\n"), f"is not JSON: {error}"


def of_objects(read: Callable[[IO[bytes]], Rows]) -> Reader:
    """A reader of JSON, where each row has keys of its own: what none of the first rows has is not in the file."""

    def reader(data: IO[bytes], check: CheckColumns) -> Rows:
        keys: dict[str, None] = {}
        number = 0
        for number, row in enumerate(read(data), 1):
            if number <= _FIRST_ROWS and isinstance(row[1], dict):
                keys |= dict.fromkeys(row[1])
            yield row
            if number == _FIRST_ROWS and keys:
                check(keys, False)
        if number < _FIRST_ROWS and keys:
            check(keys, False)

    return reader
