"""The files of one slice, written on the worker's disk first: a store only ever sees whole ones."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import IO, Self

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.exporting.contents import Tally
from airflow_provider_polar.engine.exporting.manifest import FileEntry
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.streams import RowWriter
from airflow_provider_polar.engine.window import moment_text
from airflow_provider_polar.exceptions import PolarLocalDiskError


@contextmanager
def using_local_disk(folder: str) -> Iterator[None]:
    """Says clearly what the worker's own disk refuses."""
    try:
        yield
    except OSError as error:
        try:
            free = f"{shutil.disk_usage(folder).free:,} bytes are free there"
        except OSError:
            free = "how much is free there cannot be told"
        raise PolarLocalDiskError(
            f"the worker cannot write to its own directory {folder}: {error.strerror or type(error).__name__}; {free}. "
            "Make room there, or set TMPDIR to another disk; a retry goes on from what is staged in the destination"
        ) from error


class LocalFileWriter:
    """Writes the events of a slice, in the order given, to files that roll as the layout says.

    :param folder: local directory to write in.
    :ivar tally: of what was written.
    """

    def __init__(self, folder: str, layout: FileLayout) -> None:
        self._folder = folder
        self._layout = layout
        self.tally = Tally()
        self._files: list[FileEntry] = []
        self._file: IO[bytes] | None = None
        self._writer: RowWriter | None = None
        self._rows = self._size = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        unfinished: list[RowWriter | IO[bytes] | None] = [self._writer, self._file]
        for one in unfinished:
            # What a full disk refuses was said already when it was written.
            with suppress(OSError):
                if one is not None:
                    one.close()

    def write(self, rows: Sequence[EventRow]) -> None:
        """Writes events in (timestamp, id) order.

        :raises PolarLocalDiskError: the worker's disk refuses them; a retry goes on from what is staged.
        """
        with using_local_disk(self._folder):
            for row in rows:
                if self._writer is None:
                    self._file = open(os.path.join(self._folder, f"{len(self._files) + 1:04d}"), "wb")  # noqa: SIM115
                    self._writer = self._layout.open(self._file)
                    self._first = row.timestamp
                self._size += self._writer.write(row)
                self.tally.add(row)
                self._rows += 1
                self._last = row.timestamp
                if self._layout.is_full(self._rows, self._size):
                    self._roll()

    def finish(self) -> list[FileEntry]:
        """Ends the last file and returns all, by their local paths; none where there was no event.

        :raises PolarLocalDiskError: the worker's disk refuses them; a retry goes on from what is staged.
        """
        with using_local_disk(self._folder):
            self._roll()
        return self._files

    def _roll(self) -> None:
        if self._writer is None or self._file is None or self._first is None or self._last is None:
            return
        self._writer.close()
        self._file.close()
        local = self._file.name
        with open(local, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        first, last = moment_text(self._first), moment_text(self._last)
        self._files.append(FileEntry(local, self._rows, os.path.getsize(local), sha256, first, last))
        self._writer = self._file = None
        self._rows = self._size = 0
