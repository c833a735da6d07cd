"""Events on their way: validated, identified, as JSON bytes in a temporary file, cut into batches as they come."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from airflow_provider_polar.api.requests import MAX_BODY_BYTES, MAX_EVENTS_PER_REQUEST
from airflow_provider_polar.engine.ingesting.batches import ENVELOPE_BYTES, Batch, Place

_PLACE = struct.Struct("<IQI")


class Spooled(NamedTuple):
    """One event: the number of its source, its row there, and the event as it is sent."""

    source: int
    number: int
    payload: bytes

    @property
    def place(self) -> Place:
        """Where it comes from."""
        return self.source, self.number


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch's events as they are sent, joined by commas, and where each of them begins and comes from."""

    body: bytes
    places: bytes

    @classmethod
    def of(cls, events: Iterable[Spooled]) -> Packed:
        """Packs events."""
        events = list(events)
        places = b"".join(_PLACE.pack(one.source, one.number, len(one.payload)) for one in events)
        return cls(b",".join(one.payload for one in events), places)

    def __len__(self) -> int:
        """How many events."""
        return len(self.places) // _PLACE.size

    def unpack(self) -> list[Spooled]:
        """The events one by one; most batches are sent without ever being looked at."""
        position, events = 0, []
        for source, number, length in _PLACE.iter_unpack(self.places):
            events.append(Spooled(source, number, self.body[position : position + length]))
            position += length + 1
        return events


class Spool:
    """A temporary file of events, written once and read batch by batch, also while it is written.

    Which events share a batch depends only on the events, their order and the sizes. The file has no name: nothing is
    left behind, however the process ends.

    :param batch_size: events of a batch at most, at most Polar's 32,767.
    :param max_bytes: bytes of a request's body at most.
    """

    def __init__(self, batch_size: int, max_bytes: int = MAX_BODY_BYTES) -> None:
        if not 1 <= batch_size <= MAX_EVENTS_PER_REQUEST:
            raise ValueError(f"batch_size is {batch_size}; Polar takes 1 to {MAX_EVENTS_PER_REQUEST} in a request")
        self._batch_size, self._max_bytes = batch_size, max_bytes
        # Closed by close(); a with block would end too early.
        self._file = tempfile.TemporaryFile(prefix="polar-ingest-", buffering=0)  # noqa: SIM115
        self._digest = hashlib.sha256(str(batch_size).encode())
        self._open: list[Spooled] = []
        self._body = ENVELOPE_BYTES - 1
        self._offset = self._generation = self.events = 0
        self.batches: list[Batch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops the file."""
        self._file.close()

    def add(self, event: Spooled) -> Batch | None:
        """Appends one event; the batch that is complete by that, if there is one."""
        complete = None
        body = self._body + len(event.payload) + 1
        if self._open and (len(self._open) >= self._batch_size or body > self._max_bytes):
            complete = self.cut()
            body = self._body + len(event.payload) + 1
        self._open.append(event)
        self._body = body
        self.events += 1
        return complete

    def cut(self, *, next_generation: bool = False) -> Batch | None:
        """Ends the open batch, if there is one, and gives it.

        :param next_generation: what is added from now on is sent after all that was added before.
        """
        batch = None
        if self._open:
            packed = Packed.of(self._open)
            batch = Batch(len(self.batches), self._offset, len(packed.body), len(packed), self._generation)
            for data in (packed.body, packed.places):
                self._digest.update(data)
                self._write(data)
            self.batches.append(batch)
            self._open = []
            self._body = ENVELOPE_BYTES - 1
        if next_generation:
            self._generation += 1
        return batch

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._offset += len(data)

    @property
    def digest(self) -> str:
        """Equal for the same events in the same order and the same batches."""
        return self._digest.hexdigest()

    def read(self, batch: Batch) -> Packed:
        """The events of one batch. Thread-safe."""
        length = batch.length + batch.events * _PLACE.size
        data = os.pread(self._file.fileno(), length, batch.offset)
        return Packed(data[: batch.length], data[batch.length :])
