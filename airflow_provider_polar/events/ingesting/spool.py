"""Events on their way: validated, identified, as JSON bytes in a temporary file, cut into batches as they come."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from airflow_provider_polar.events.ingesting.batches import Batch, BatchCutter

_HEADER = struct.Struct("<IQI")


class Spooled(NamedTuple):
    """One event: the number of its source, its row there, and the event as it is sent."""

    source: int
    number: int
    payload: bytes


class Spool:
    """A temporary file of events, written once and then read batch by batch, from any thread.

    The file has no name: nothing is left behind, however the process ends.

    :param batch_size: events of a batch at most.
    """

    def __init__(self, batch_size: int) -> None:
        self._cutter = BatchCutter(batch_size)
        # Closed by close(); a with block would end too early.
        self._file = tempfile.TemporaryFile(prefix="polar-ingest-")  # noqa: SIM115
        self._digest = hashlib.sha256(str(batch_size).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops the file."""
        self._file.close()

    def add(self, event: Spooled) -> None:
        """Appends one event."""
        record = _HEADER.pack(event.source, event.number, len(event.payload)) + event.payload
        self._file.write(record)
        self._digest.update(record)
        self._cutter.add(len(record), len(event.payload), (event.source, event.number))

    def finish(self) -> list[Batch]:
        """Ends the writing; the batches, in order."""
        self._file.flush()
        return self._cutter.finish()

    @property
    def digest(self) -> str:
        """Equal for the same events in the same order and the same batches."""
        return self._digest.hexdigest()

    def read(self, batch: Batch) -> Iterator[Spooled]:
        """The events of one batch. Thread-safe."""
        data = os.pread(self._file.fileno(), batch.length, batch.offset)
        position = 0
        while position < len(data):
            source, number, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            yield Spooled(source, number, data[position : position + length])
            position += length
