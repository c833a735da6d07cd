"""The files of one slice, written on the worker's disk first: a store only ever sees whole ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import IO, Self

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.events.exporting.writers import FileLayout, RowWriter
from airflow_provider_polar.events.window import moment_text


@dataclass(frozen=True, slots=True)
class Part:
    """A finished local file.

    :param local: its path on this machine.
    :param rows: events in it.
    :param bytes: its size.
    :param sha256: of its bytes, hexadecimal.
    :param first_timestamp: of its first event, ISO 8601 in UTC.
    :param last_timestamp: of its last event.
    """

    local: str
    rows: int
    bytes: int
    sha256: str
    first_timestamp: str
    last_timestamp: str


class PartWriter:
    """Writes the events of a slice, in the order given, to files that roll as the layout says.

    :param folder: local directory to write in.
    """

    def __init__(self, folder: str, layout: FileLayout) -> None:
        self._folder = folder
        self._layout = layout
        self._parts: list[Part] = []
        self._file: IO[bytes] | None = None
        self._writer: RowWriter | None = None
        self._rows = self._size = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, rows: Sequence[EventRow]) -> None:
        """Writes events in (timestamp, id) order."""
        for row in rows:
            if self._writer is None:
                self._file = open(os.path.join(self._folder, f"{len(self._parts) + 1:04d}"), "wb")  # noqa: SIM115
                self._writer = self._layout.open(self._file)
                self._first = row.timestamp
            self._size += self._writer.write(row)
            self._rows += 1
            self._last = row.timestamp
            if self._layout.is_full(self._rows, self._size):
                self._roll()

    def finish(self) -> list[Part]:
        """Ends the last file and returns all; none where there was no event."""
        self._roll()
        return self._parts

    def _roll(self) -> None:
        if self._writer is None or self._file is None or self._first is None or self._last is None:
            return
        self._writer.close()
        self._file.close()
        local = self._file.name
        with open(local, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        first, last = moment_text(self._first), moment_text(self._last)
        self._parts.append(Part(local, self._rows, os.path.getsize(local), sha256, first, last))
        self._writer = self._file = None
        self._rows = self._size = 0
