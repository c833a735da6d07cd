"""What the formats have in common: rows in and out, lines of a stream, JSON text, metadata in columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import IO, Any, Protocol

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import CODECS
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS

_BLOCK = 1 << 18
KNOWN = frozenset(EVENT_FIELDS)
_FIRST_ROWS = 1000
_SHOWN = 500
_LINE = msgspec.json.Decoder()

Rows = Iterator[tuple[int, Any, str | None]]
"""Of each row of a file the number (the line of a jsonl or csv file, else the position, from 1), the row, and why it
could not be read; the row is then what there was of it."""
CheckColumns = Callable[[Collection[str], bool], None]
"""Is told the columns of a file, and whether every row has all of them."""
Reader = Callable[[IO[bytes], CheckColumns], Rows]


class RowWriter(Protocol):
    """What each format's writer does; the same rows in the same order give the same bytes."""

    def write(self, row: EventRow) -> int:
        """Writes one event and returns its size in bytes before compression."""

    def close(self) -> None:
        """Ends the file; the stream given stays open."""


class LineWriter(RowWriter):
    """Writes events as lines to a binary stream.

    :param encode: an event to its line.
    :param header: bytes that every file begins with.
    """

    def __init__(
        self, raw: IO[bytes], encode: Callable[[EventRow], bytes], compression: str | None, header: bytes = b""
    ) -> None:
        self._stream = CODECS[compression].write(raw)
        self._raw = raw
        self._encode = encode
        self._block = bytearray(header)

    def write(self, row: EventRow) -> int:
        line = self._encode(row)
        self._block += line
        # Blocks end where rows say, never where a page did: what a compressor makes of them must not depend on
        # how the rows came.
        if len(self._block) >= _BLOCK:
            self._stream.write(bytes(self._block))
            self._block.clear()
        return len(line)

    def close(self) -> None:
        self._stream.write(bytes(self._block))
        self._block.clear()
        if self._stream is not self._raw:
            self._stream.close()


# JSON


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


def gathered(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """``metadata.KEY`` columns as one object, and a ``metadata`` column of JSON text as the object that it is."""
    event: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for column, cell in row.items():
        if column == "metadata" and isinstance(cell, str):
            cell, error = json_value(cell.encode(errors="surrogatepass"))
            if error or not isinstance(cell, dict):
                return row, "metadata is not a JSON object"
        if column == "metadata" and isinstance(cell, Mapping):
            gathered: Mapping[str, Any] = cell
        elif column.startswith("metadata."):
            gathered = {} if cell is None else {column.removeprefix("metadata."): cell}
        else:
            event[column] = cell
            continue
        if twice := metadata.keys() & gathered.keys():
            return row, f"metadata has {min(twice)!r} twice: in the column metadata and in one of its own"
        metadata.update(gathered)
    return ({**event, "metadata": metadata}, None) if metadata else (event, None)
