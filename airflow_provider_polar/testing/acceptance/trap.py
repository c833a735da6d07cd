"""What a trap is: it prepares a local Polar, lets the client run, and judges what came of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing.acceptance.clients import Client, ClientFailed, NotOffered
from airflow_provider_polar.testing.acceptance.other_hosts import OtherHosts
from airflow_provider_polar.testing.local import LocalPolar

Event = dict[str, Any]
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """What came of a trap. Of a client that says that it failed, what it did not do is not lost.

    :param lost: events, or fields, that are missing though the client ended well.
    :param twice: events that there are more of than were due.
    :param detail: how the client failed, empty if it did not.
    """

    lost: int = 0
    twice: int = 0
    detail: str = ""
    offered: bool = True

    @property
    def text(self) -> str:
        """As the table says it."""
        counts = [f"{what} {number:,}" for what, number in (("LOST", self.lost), ("TWICE", self.twice)) if number]
        if not self.offered:
            return "not offered"
        return ", ".join(counts) or ("failed" if self.detail else "ok")

    @property
    def passed(self) -> bool:
        """Whether nothing is to be said against the client."""
        return self.text in ("ok", "not offered")


class Run:
    """One client in one trap.

    :param polar: the local Polar, empty at first and without faults.
    :param chance: decides everything that a trap leaves open.
    :param hosts: whom else the client tries to reach.
    :param folder: an empty directory for the state that the client keeps, and for its temporary files.
    """

    def __init__(
        self, polar: LocalPolar, client: Client, chance: random.Random, hosts: OtherHosts, folder: Path
    ) -> None:
        self.polar = polar
        self.chance = chance
        self.hosts = hosts
        self._client = client
        self._folder = folder
        self._state = folder / "state"
        self._state.mkdir()
        self.start = datetime(2026, 3, 2, tzinfo=UTC) + chance.randrange(2_000) * HOUR
        self.end = self.start + HOUR

    def read(self, start: datetime | None = None, end: datetime | None = None) -> list[Event]:
        """What the client gives of a window, by default the run's hour."""
        return self._read("list", start or self.start, end or self.end)

    def sync(self, start: datetime, end: datetime) -> list[Event]:
        """What the client gives of a window that it has not given before."""
        return self._read("sync", start, end, "--state", str(self._state))

    def _read(self, command: str, start: datetime, end: datetime, *more: str) -> list[Event]:
        output = self._run([command, "--start", _text(start), "--end", _text(end), *more])
        try:
            return [json.loads(line) for line in output.splitlines() if line.strip()]
        except ValueError:
            raise ClientFailed("a line of its output is not JSON") from None

    def ingest(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Lets the client send events."""
        self._run(["ingest"], "".join(json.dumps(event) + "\n" for event in events))

    def _run(self, arguments: Sequence[str], given: str = "") -> str:
        environment = {
            "POLAR_BASE_URL": self.polar.base_url,
            "POLAR_ACCESS_TOKEN": self.polar.token,
            "TMPDIR": str(self._folder),
            **self.hosts.environment(),
        }
        return self._client.run(arguments, environment, given)

    # What the server holds

    def moments(self, number: int) -> list[datetime]:
        """So many moments of the run's hour, in order, no two of them in the same millisecond."""
        return [
            self.start + timedelta(milliseconds=millisecond, microseconds=self.chance.randrange(1000))
            for millisecond in sorted(self.chance.sample(range(3_600_000), number))
        ]

    def add(self, moments: Iterable[datetime], **options: Any) -> list[str]:
        """Puts a user event for each moment into the server, and returns their ids."""
        return self.polar.add_events((self.event() | {"timestamp": moment} for moment in moments), **options)

    def event(self) -> Event:
        """Some usage of some customer."""
        return {
            "name": self.chance.choice(("api.call", "job.done", "storage.rollup")),
            "external_customer_id": self.chance.choice(("acme", "birch", "comet", "delta", "ember")),
            "metadata": {"units": self.chance.randrange(1_000_000)},
        }


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def judged(due: Iterable[Any], *readings: Iterable[Any]) -> Verdict:
    """Whether what is due, and nothing else, is there, once each in all readings together."""
    wanted, given = Counter(due), Counter(thing for reading in readings for thing in reading)
    return Verdict((wanted - given).total(), (given - wanted).total())


def ids(events: Iterable[Event]) -> list[str]:
    """The ids of what a client gives."""
    return [str(event.get("id")) for event in events]


Trap = Callable[[Run], Verdict]
TRAPS: dict[str, Trap] = {}
"""Every trap by its name, in the order of the table."""


def trap(function: Trap) -> Trap:
    """Makes a function a trap, named as the function is."""
    TRAPS[function.__name__.replace("_", "-")] = function
    return function


def spring(client: Client, name: str, seed: int, folder: Path) -> Verdict:
    """One client in one trap, with a server of its own; `folder` is empty."""
    with LocalPolar() as polar, OtherHosts() as hosts:
        try:
            return TRAPS[name](Run(polar, client, random.Random(f"{name} {seed}"), hosts, folder))
        except NotOffered:
            return Verdict(offered=False)
        except ClientFailed as failure:
            return Verdict(detail=str(failure))
