"""The poll that watchers share, on Airflow 3.3 and newer: a cursor moves when Airflow has stored the asset event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_provider_polar.engine.waiting.watch import Look
from airflow_provider_polar.engine.waiting.watcher import Watcher
from airflow_provider_polar.triggers._checkpoint import Checkpoint
from airflow_provider_polar.triggers._watch_polls import WatchPolls

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Member:
    """A watcher that shares polls.

    :param first: the number of the first poll that is made for it, too.
    :param states: by the number of a poll, the cursors as they were when all that it found was handed to Airflow.
    """

    watcher: Watcher
    checkpoint: Checkpoint
    first: int
    states: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def has_told(self, number: int) -> None:
        """Everything that this poll found is handed to Airflow, which has yet to store it."""
        if state := self.watcher.state():
            self.states[number] = state


@dataclass(eq=False, slots=True)
class Members:
    """The watchers that share polls, in one event loop.

    :param number: of the last poll that was begun.
    :param joined: set where one has joined since.
    """

    members: list[Member] = field(default_factory=list)
    number: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def joining(self, watcher: Watcher, checkpoint: Checkpoint) -> Iterator[Member]:
        """Makes a watcher a member for as long as it runs."""
        member = Member(watcher, checkpoint, self.number + 1)
        self.members.append(member)
        self.joined.set()
        try:
            yield member
        finally:
            self.members.remove(member)

    def begin_poll(self) -> Sequence[Watcher]:
        """The watchers to poll for."""
        self.joined.clear()
        self.number += 1
        return [member.watcher for member in self.members]


_members: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Members]] = WeakKeyDictionary()


def members_of(key: Hashable) -> Members:
    """The watchers of a shared stream."""
    return _members.setdefault(asyncio.get_running_loop(), {}).setdefault(key, Members())


class WatchStream(SharedStreamProducer):
    """Polls for all members, and stores the cursors of those whose asset events Airflow has stored."""

    settling: ClassVar[float] = 2.0
    """Seconds from Airflow's word that an event is stored to storing the cursor. Airflow says so, too, where it has
    dropped the event because the watcher was changed or taken away; then it ends the watcher with the same message,
    and the cursor of one that has ended does not move."""
    patience: ClassVar[float] = 5.0
    """Seconds that storing may take: where a triggerer ends, nothing responds any more."""

    def __init__(self, trigger: PolarEventWatchTrigger) -> None:
        self._members = members_of(trigger.shared_stream_key())
        self._number = 0
        self._polls = WatchPolls(trigger, self._begin_poll, self._members.joined)

    async def open_stream(self) -> AsyncIterator[tuple[tuple[int, Look], int]]:
        """Yields each poll's number and what it found, for ever."""
        async for look in self._polls.looks():
            yield (self._number, look), self._number

    def _begin_poll(self) -> Sequence[Watcher]:
        watchers = self._members.begin_poll()
        self._number = self._members.number
        return watchers

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Stores each member's cursors as they were after the last poll of which everything is stored.

        Where a watcher has failed, which of them it was is not known: the others' cursors move with the next poll.
        """
        for _ in range(10):
            # In turns: where the event loop was held up, one sleep could be over before the watcher is ended.
            await asyncio.sleep(self.settling / 10)
        try:
            async with asyncio.timeout(self.patience):
                for item in batch:
                    await self._store(item.broker_payload, item.outcome.is_clean)
        except TimeoutError:
            log.warning("Cursors of watchers could not be stored in %.0f seconds: it is tried again.", self.patience)

    async def _store(self, number: int, everything_is_stored: bool) -> None:
        for member in list(self._members.members):
            told = [member.states.pop(earlier) for earlier in sorted(member.states) if earlier <= number]
            if told and everything_is_stored:
                await member.checkpoint.store(told[-1])
