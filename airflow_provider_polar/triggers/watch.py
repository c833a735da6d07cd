"""Runs DAGs when named events of Polar happen: a trigger for ``AssetWatcher``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_polar.triggers._client import load

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_polar.engine.waiting.cursor import WatchCursor
    from airflow_provider_polar.engine.waiting.watcher import Watcher


class PolarEventWatchTrigger(BaseEventTrigger):
    """Watches for named events, from the moment it first ran on.

    ::

        asset = Asset("orders", watchers=[AssetWatcher(name="paid", trigger=PolarEventWatchTrigger(
            event_name="order.paid"))])

    Each poll that found something yields a small event for each run of new events without an old one in between, at
    most ten: ``{"count", "names": {name: number}, "ids": the first 100, "window": {"start", "end"}}``. The DAG behind
    it exports that window, and so owns the data. Several of them may become one run of the DAG.

    **Delivery.** Every event that becomes listable at most ``overlap`` after its timestamp is delivered at least once.
    On Airflow 3.3 and newer this holds through kills and restarts of the triggerer, too: a cursor for each event name
    is kept with the asset, and moves when Airflow has stored the asset event. What was yielded and not stored is
    delivered again. Otherwise each event is delivered once; only of more than 4,000 events of a name within the
    overlap, a whole minute may come again after a restart. Before Airflow 3.3 there is no such store: every start of
    the triggerer is then a first one, and what happened while it was down is delivered only if ``start`` is given, and
    then everything since ``start``, each time.

    **Changes.** Names can be added, taken away and put in another order: each goes on where it was, and a new one
    begins now. With other filters a watcher goes on where the last one for the name on this asset was, and delivers
    what now meets them from the overlap on. Another connection or asset is a new beginning.

    It never ends and never yields an error. Faults are logged and waited out; mistakes (a wrong token, a missing
    scope) are logged as errors and tried again, ever more rarely, with the connection read anew.

    On Airflow 3.3 and newer all watchers of a connection with the same filters, poll interval and overlap share one
    poll.

    :param event_name: one event name or several.
    :param filters: further :class:`~airflow_provider_polar.api.filters.EventFilters`, or the same as a dict; names
        only in ``event_name``.
    :param polar_conn_id: the connection.
    :param poll_interval: seconds (or a timedelta) between two polls, at least :attr:`shortest_poll_interval`.
    :param overlap: seconds (or a timedelta) that each poll looks back for events that became listable late.
    :param start: aware datetime or ISO 8601 text with a zone: deliver also what has happened since then. It can be
        given or moved back later. Default: only what happens from the moment on at which it first ran, even if Polar
        cannot be reached then.
    :param min_interval: seconds (or a timedelta) after the first new event for which more are gathered, so that a
        burst makes one asset event and not one each poll.
    """

    shortest_poll_interval: ClassVar[float] = 5.0
    """Seconds; the request budget is the whole organization's."""

    def __init__(
        self,
        *,
        event_name: str | Sequence[str],
        filters: Any = None,
        polar_conn_id: str = "polar_default",
        poll_interval: float | timedelta = 60.0,
        overlap: float | timedelta = 900.0,
        start: datetime | str | None = None,
        min_interval: float | timedelta = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.event_name = [event_name] if isinstance(event_name, str) else list(event_name)
        self.filters = filters
        self.polar_conn_id = polar_conn_id
        self.poll_interval = _seconds(poll_interval)
        self.overlap = _seconds(overlap)
        self.start = start
        self.min_interval = _seconds(min_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and keyword arguments, primitives only; also the watcher's identity.

        :raises PolarConfigurationError: an impossible argument, so that the DAG's file is refused.
        """
        if not _in_event_loop():
            self._check()
        return (
            "airflow_provider_polar.triggers.watch.PolarEventWatchTrigger",
            {
                "event_name": self.event_name,
                "filters": self.filters,
                "polar_conn_id": self.polar_conn_id,
                "poll_interval": self.poll_interval,
                "overlap": self.overlap,
                "start": self.start,
                "min_interval": self.min_interval,
            },
        )

    def _check(self) -> None:
        """Puts the arguments into their one form, primitives only."""
        from airflow_provider_polar.api.filters import EventFilters
        from airflow_provider_polar.engine.waiting.wait import names_of
        from airflow_provider_polar.engine.waiting.watch import Watch
        from airflow_provider_polar.engine.window import aware, moment_text
        from airflow_provider_polar.exceptions import PolarConfigurationError

        self.event_name = sorted(names_of(self.event_name, "event_name"))
        if not self.event_name:
            raise PolarConfigurationError("event_name is empty: name one event or several.")
        for name in ("poll_interval", "min_interval"):
            if not getattr(self, name) >= 0:
                raise PolarConfigurationError(f"{name} is {getattr(self, name)} seconds; it cannot be negative.")
        watch = Watch(EventFilters.parse(self.filters), timedelta(seconds=self.overlap))
        self.filters = watch.filters.to_dict() or None
        self.start = None if self.start is None else moment_text(aware(self.start, "start"))

    def shared_stream_key(self) -> Hashable | None:
        """Watchers for which this is equal share one poll, whatever names they watch for."""
        filters = json.dumps(self.serialize()[1]["filters"], sort_keys=True)
        return ("polar-events", self.polar_conn_id, filters, self.poll_interval, self.overlap)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Polls for ever on its own, without a stored cursor: what Airflow before 3.3 does."""
        await load()
        from airflow_provider_polar.triggers._watch_polls import WatchPolls

        watcher = self._watcher({})
        async for look in WatchPolls(self, lambda: [watcher], asyncio.Event()).looks():
            for payload in watcher.take(look):
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """The poll for all names that the group's watchers want."""
        from airflow_provider_polar.triggers._watch_stream import WatchStream

        return WatchStream(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Takes its part of what the shared poll finds, from its stored cursors on."""
        await load()
        from airflow_provider_polar.triggers._checkpoint import Checkpoint
        from airflow_provider_polar.triggers._watch_stream import members_of

        kwargs = self.serialize()[1]
        checkpoint = Checkpoint(self.asset_state_store, self.polar_conn_id, kwargs["filters"])
        watcher = self._watcher({name: await checkpoint.load(name) for name in self.event_name})
        # A first run is remembered before anything can go wrong.
        await checkpoint.store(watcher.state())
        with members_of(self.shared_stream_key()).joining(watcher, checkpoint) as member:
            async for number, look in shared_stream:
                if number < member.first:
                    continue
                for payload in watcher.take(look):
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                member.has_told(number)

    def _watcher(self, stored: dict[str, WatchCursor | None]) -> Watcher:
        """Goes on from the stored cursors, and begins now, or at ``start``, where there is none."""
        from airflow_provider_polar.engine.waiting.cursor import WatchCursor
        from airflow_provider_polar.engine.waiting.watcher import Watcher
        from airflow_provider_polar.engine.window import aware

        now = datetime.now(UTC)
        cursors: dict[str, WatchCursor] = {}
        for name in self.event_name:
            cursors[name] = stored.get(name) or WatchCursor.beginning(now, timedelta(seconds=self.overlap))
            if self.start is not None:
                cursors[name].extend(aware(self.start, "start"))
        return Watcher(cursors, timedelta(seconds=self.min_interval))


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _in_event_loop() -> bool:
    # In a triggerer, where the arguments are checked ones that come from the database, and where the imports that a
    # check needs would hold up all triggers.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
