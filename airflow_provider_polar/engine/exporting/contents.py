"""Which events an export holds, as its manifest says it: a digest of the set of their ids, and counts of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from airflow_provider_polar.api.rows import EventRow, from_ms
from airflow_provider_polar.engine.window import moment_text

HOUR_MS = 3_600_000
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Contents:
    """The events of an export, whatever the order, the files or the slices that they came in.

    The digest is the sum of the SHA-256 of the ids, modulo 2^256. Sums of disjoint sets add up to that of their union,
    so slices, shards and windows combine (with XOR, an id held twice would vanish). Two sets of equally many ids, the
    count being the manifest's ``rows``, have one digest by a chance of 2^-256. It is no seal: who could choose
    masses of ids could make two sets agree (by a generalized birthday attack, after some 2^32 steps), but it is Polar
    that gives events their ids.

    :param ids_digest: the digest, 64 hexadecimal digits.
    :param names: events by source and name.
    :param hours: events by the hour (UTC) of their timestamps.
    """

    ids_digest: str
    names: Mapping[str, Mapping[str, int]]
    hours: Mapping[str, int]

    @classmethod
    def joined(cls, parts: Iterable[Contents]) -> Contents:
        """The contents of disjoint parts together."""
        total = 0
        names: dict[str, Counter[str]] = {}
        hours: Counter[str] = Counter()
        for part in parts:
            total += int(part.ids_digest, 16)
            hours.update(part.hours)
            for source, counts in part.names.items():
                names.setdefault(source, Counter()).update(counts)
        return cls(
            f"{total % _MODULUS:064x}",
            {source: dict(sorted(names[source].items())) for source in sorted(names)},
            dict(sorted(hours.items())),
        )


class Tally:
    """Takes note of events as they pass by."""

    def __init__(self) -> None:
        self.rows = self._ids = 0
        self._names: Counter[tuple[bytes, bytes]] = Counter()
        self._hours: Counter[int] = Counter()

    def add(self, row: EventRow) -> None:
        """Counts one event."""
        self.rows += 1
        self._ids += int.from_bytes(hashlib.sha256(row.id.encode()).digest())
        self._names[bytes(row.values["source"]), bytes(row.values["name"])] += 1
        self._hours[row.ms // HOUR_MS] += 1

    @property
    def contents(self) -> Contents:
        """The events counted so far."""
        hours = {moment_text(from_ms(hour * HOUR_MS)): count for hour, count in self._hours.items()}
        named = (
            Contents("0", {msgspec.json.decode(source): {msgspec.json.decode(name): count}}, {})
            for (source, name), count in self._names.items()
        )
        return Contents.joined([Contents(f"{self._ids % _MODULUS:x}", {}, hours), *named])
