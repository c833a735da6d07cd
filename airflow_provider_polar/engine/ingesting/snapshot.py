"""The identified events of an ingest, frozen before its first request: whatever the query says later, they are sent.

A snapshot is one object, ``frozen-SCOPE-INGEST.jsonl.gz``: a header, then a line for each event in the order in which
it is sent, then one for each rejected row. It appears whole or not at all, and never replaces another one: of two
attempts at once one wins, and both send its events. When all are stored it goes, or is kept, as
``kept-SCOPE-TIME-INGEST.jsonl.gz``, for later runs to tell rows that have changed since.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.journal import EncodedEvent, Journal
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.exceptions import PolarSourceError

_VERSION = 1


class Counts(NamedTuple):
    """What the reading of rows has counted.

    :param rows: all.
    :param repeated: those that came more than once under one ``external_id``.
    """

    rows: int
    repeated: int


class _Header(msgspec.Struct, frozen=True):
    version: int
    rows: int
    repeated: int
    events: int
    rejected: int


class _Event(msgspec.Struct, frozen=True):
    place: int
    generation: int
    event: msgspec.Raw


_EVENT = msgspec.json.Decoder(_Event)


class Snapshot:
    """The snapshot of one ingest, in a directory that many may share.

    :param scope: of the identities, see :mod:`airflow_provider_polar.engine.ingesting.identity`.
    :param owner: what is the same for all attempts of one ingest, and different for all others.
    :param keep: whether it stays when all is stored.
    """

    def __init__(self, directory: Directory, scope: str, owner: str, *, keep: bool = False) -> None:
        self._directory, self._keep = directory, keep
        self._scope, self._ingest = _digest(scope), _digest(owner)
        self._name = f"frozen-{self._scope}-{self._ingest}.jsonl.gz"
        self.url = directory.url_of(self._name)
        self.advice = f"The events are frozen in {self.url}: a retry sends these; remove it to have the rows read anew"

    def freeze(self, journal: Journal, rejected: RejectedRows, counts: Counts) -> bool:
        """Publishes what is to be sent; False where another attempt has done so.

        :raises PolarDestinationError: it cannot be written. A retry is safe.
        """
        header = _Header(_VERSION, *counts, journal.events, len(rejected))
        with tempfile.NamedTemporaryFile(prefix="polar-frozen-") as local:
            with gzip.open(local.name, "wb", compresslevel=1) as file:
                file.write(msgspec.json.encode(header) + b"\n")
                for batch in journal.batches:
                    file.writelines(
                        b'{"place":%d,"generation":%d,"event":%b}\n' % (one.place, batch.generation, one.payload)
                        for one in journal.read(batch)
                    )
                file.writelines(rejected.lines())
            return self._directory.create(local.name, self._name)

    def restore(self, journal: Journal, rejected: RejectedRows) -> Counts | None:
        """Takes up what an earlier attempt has frozen; None where there is nothing.

        :raises PolarDestinationError: it cannot be read. A retry helps if the store was away.
        :raises PolarSourceError: it is damaged.
        """
        with self._opened(self._name) as frozen:
            if frozen is None:
                return None
            header, lines = frozen
            for one in _events(header, lines):
                journal.add(EncodedEvent(one.place, bytes(one.event)), one.generation)
            journal.cut()
            for line in lines:
                rejected.restore(json.loads(line))
            if len(rejected) != header.rejected:
                raise ValueError("rows are missing at its end")
            return Counts(header.rows, header.repeated)

    def finish(self) -> None:
        """Removes it, or gives it the name under which it stays; to be called when all is stored."""
        size = self._directory.size(self._name)
        if size is not None and self._keep:
            moment = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
            kept = f"kept-{self._scope}-{moment}-{self._ingest}.jsonl.gz"
            self._directory.move(self._name, kept, size)
        else:
            self._directory.remove(self._name)

    def kept(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The kept snapshots of all runs in the scope, the earliest first: their paths, and the events in them."""
        for name in self._directory.sizes(f"kept-{self._scope}-"):
            with self._opened(name) as kept:
                if kept is not None:
                    yield self._directory.url_of(name), (bytes(one.event) for one in _events(*kept))

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[_Header, Iterator[bytes]] | None]:
        with tempfile.NamedTemporaryFile(prefix="polar-frozen-") as local:
            if not self._directory.download(name, local.name):
                yield None
                return
            try:
                with gzip.open(local.name, "rb") as file:
                    header = msgspec.json.decode(file.readline(), type=_Header)
                    if header.version != _VERSION:
                        raise ValueError(f"its version is {header.version}, and this provider reads {_VERSION}")
                    yield header, iter(file)
            except (OSError, EOFError, ValueError, zlib.error) as error:
                told = "it is no JSON of a snapshot" if isinstance(error, msgspec.MsgspecError) else error
                raise PolarSourceError(
                    f"the frozen events in {self._directory.url_of(name)} cannot be read: {told}. If you remove the "
                    "file, the query is read anew"
                ) from None


def _events(header: _Header, lines: Iterator[bytes]) -> Iterator[_Event]:
    for _ in range(header.events):
        yield _EVENT.decode(next(lines, b""))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
