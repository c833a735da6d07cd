"""What the formats read from and write to streams of bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import IO, Any, Protocol

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import CODECS

_BLOCK = 1 << 18

Encode = Callable[[EventRow], bytes]
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


class LineWriter:
    """Writes events as lines to a binary stream.

    :param encode: an event to its line.
    :param header: bytes that every file begins with.
    """

    def __init__(self, raw: IO[bytes], encode: Encode, compression: str | None, header: bytes = b"") -> None:
        self._stream = CODECS[compression].write(raw)
        self._raw = raw
        self._encode = encode
        self._block = bytearray(header)

    def write(self, row: EventRow) -> int:
        """Writes one event; returns its size in bytes before compression."""
        line = self._encode(row)
        self._block += line
        # Blocks end where rows say, never where a page did: what a compressor makes of them must not depend on
        # how the rows came.
        if len(self._block) >= _BLOCK:
            self._stream.write(bytes(self._block))
            self._block.clear()
        return len(line)

    def close(self) -> None:
        """Ends the file; the stream given stays open."""
        self._stream.write(bytes(self._block))
        self._block.clear()
        if self._stream is not self._raw:
            self._stream.close()
