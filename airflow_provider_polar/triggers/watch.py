"""Runs DAGs when named events of Polar happen: a trigger for ``AssetWatcher``."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_polar.triggers._checkpoint import Checkpoint
from airflow_provider_polar.triggers._client import load, shared_client

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient
    from airflow_provider_polar.engine.waiting.cadence import Cadence
    from airflow_provider_polar.engine.waiting.watch import SeenEvent, Watch, WatchCursor
    from airflow_provider_polar.hooks.polar import PolarHook


class PolarEventWatchTrigger(BaseEventTrigger):
    """Watches for named events, from the moment it first ran on.

    ::

        asset = Asset("orders", watchers=[AssetWatcher(name="paid", trigger=PolarEventWatchTrigger(
            event_name="order.paid"))])

    Each poll that found something yields one small event: ``{"count", "names": {name: number}, "ids": the first 100,
    "window": {"start", "end"}}``. The DAG behind it exports that window, and so owns the data. Several of them may
    become one run of the DAG.

    **Delivery.** Every event that becomes listable at most ``overlap`` after its timestamp is delivered at least once,
    through restarts of the triggerer too. The cursor is stored with the asset (Airflow 3.3 and newer), a few seconds
    after an event was yielded, because until Airflow has stored that itself it is only in memory: a triggerer killed
    in these seconds delivers again. Otherwise each event is delivered once; only of more than 4,000 events within the
    overlap, a whole minute may come again after a restart. Before Airflow 3.3 there is no such store: every start of
    the triggerer is then a first one, and what happened while it was down is delivered only if ``start`` is given, and
    then everything since ``start``, each time.

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
    :param start: aware datetime or ISO 8601 text with a zone: deliver also what has happened since then. Default: only
        what becomes listable after the first poll.
    """

    shortest_poll_interval: ClassVar[float] = 5.0
    """Seconds; the request budget is the whole organization's."""
    _names_of_stream: ClassVar[dict[Hashable, Counter[str]]] = {}

    def __init__(
        self,
        *,
        event_name: str | Sequence[str],
        filters: Any = None,
        polar_conn_id: str = "polar_default",
        poll_interval: float | timedelta = 60.0,
        overlap: float | timedelta = 900.0,
        start: datetime | str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.event_name = [event_name] if isinstance(event_name, str) else list(event_name)
        self.filters = filters
        self.polar_conn_id = polar_conn_id
        self.poll_interval = _seconds(poll_interval)
        self.overlap = _seconds(overlap)
        self.start = start
        self._held: AsyncExitStack | None = None

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
            },
        )

    def _check(self) -> None:
        """Puts the arguments into their one form, primitives only."""
        from airflow_provider_polar.engine.window import aware, moment_text

        watch = self._watch(self.filters)
        self.event_name = list(watch.names)
        self.filters = watch.filters.to_dict() or None
        self.start = None if self.start is None else moment_text(aware(self.start, "start"))

    def shared_stream_key(self) -> Hashable | None:
        """Watchers for which this is equal share one poll, whatever names they watch for."""
        filters = json.dumps(self.serialize()[1]["filters"], sort_keys=True)
        return ("polar-events", self.polar_conn_id, filters, self.poll_interval, self.overlap)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Polls for ever on its own, where Airflow shares no polls."""
        await load()
        cadence, checkpoint = self._cadence(), self._checkpoint()
        try:
            cursor, rows = await self._first_poll(checkpoint, cadence)
            while True:
                if rows:
                    yield self._event(rows)
                await checkpoint.store(cursor)
                await asyncio.sleep(cadence.after_poll())
                rows = await self._poll(cursor, cadence)
        finally:
            await self._let_go()

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[list[SeenEvent]]:
        """Polls for ever for all names that the group's watchers want, and yields what may be new to some of them."""
        await load()
        from airflow_provider_polar.engine.waiting.watch import WatchCursor

        shared = cls(**kwargs)
        names = cls._names_of_stream.setdefault(shared.shared_stream_key(), Counter())
        cadence = shared._cadence()
        asked: list[str] = []
        cursor: WatchCursor | None = None
        try:
            while True:
                wanted = sorted(names)
                if wanted and wanted != asked:
                    shared.event_name = asked = wanted
                    begin = shared._watch(None).beginning(datetime.now(UTC))
                    # Names that join change nothing for the others: what an outage kept unread stays to be read.
                    cursor = WatchCursor.beginning(min(begin.since, cursor.moment)) if cursor else begin
                if cursor is not None and (rows := await shared._poll(cursor, cadence)):
                    yield rows
                await asyncio.sleep(cadence.after_poll())
        finally:
            await shared._let_go()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Looks once on its own, for what happened while nobody looked, and then takes its part of the shared poll."""
        names = self._names_of_stream.setdefault(self.shared_stream_key(), Counter())
        names.update(self.event_name)
        try:
            await load()
            checkpoint = self._checkpoint()
            cursor, rows = await self._first_poll(checkpoint, self._cadence())
            await self._let_go()
            if rows:
                yield self._event(rows)
            await checkpoint.store(cursor)
            watch = self._watch(None)
            async for shared_rows in shared_stream:
                if rows := watch.take(cursor, shared_rows, datetime.now(UTC)):
                    yield self._event(rows)
                    await checkpoint.store(cursor)
        finally:
            names.subtract(self.event_name)
            for name in [name for name, number in names.items() if number <= 0]:
                del names[name]
            await self._let_go()

    async def _first_poll(self, checkpoint: Checkpoint, cadence: Cadence) -> tuple[WatchCursor, list[SeenEvent]]:
        """The cursor to go on from, and what is new to it. A first run passes over what is there, for good."""
        from airflow_provider_polar.engine.waiting.watch import WatchCursor
        from airflow_provider_polar.engine.window import aware

        cursor = await checkpoint.load()
        if cursor is None and self.start is not None:
            cursor = WatchCursor.beginning(aware(self.start, "start"))
        if cursor is not None:
            return cursor, await self._poll(cursor, cadence)
        cursor = self._watch(None).beginning(datetime.now(UTC))
        await self._poll(cursor, cadence)
        await checkpoint.store(cursor, at_once=True)
        return cursor, []

    async def _poll(self, cursor: WatchCursor, cadence: Cadence) -> list[SeenEvent]:
        """One poll that does not give up: the events that are new to the cursor, oldest first."""
        from airflow_provider_polar.engine.waiting.wait import arun
        from airflow_provider_polar.exceptions import PolarError

        while True:
            try:
                hook, client = await self._client()
                watch = self._watch(hook.filters(self.filters))
                return await arun(watch.poll(cursor, datetime.now(UTC)), client.list_rows)
            except PolarError as error:
                pause = cadence.after_fault(error)
                say = self.log.warning if error.retryable else self.log.error
                say("The watch for %s goes on in %.0f seconds, after: %s", ", ".join(self.event_name), pause, error)
            except Exception as error:
                # A trigger that raises is started again within a second, and would send Polar a request each time.
                pause = cadence.after_fault(error)
                self.log.exception("The watch for %s goes on in %.0f seconds.", ", ".join(self.event_name), pause)
            # The connection may have been fixed meanwhile.
            await self._let_go()
            await asyncio.sleep(pause)

    async def _client(self) -> tuple[PolarHook, AsyncPolarClient]:
        if self._held is None:
            stack = AsyncExitStack()
            self._client_in_use = await stack.enter_async_context(shared_client(self.polar_conn_id))
            self._held = stack
        return self._client_in_use

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.aclose()

    def _event(self, rows: list[SeenEvent]) -> TriggerEvent:
        from airflow_provider_polar.engine.waiting.watch import payload_of

        return TriggerEvent(payload_of(rows))  # type: ignore[no-untyped-call]

    def _watch(self, filters: Any) -> Watch:
        from airflow_provider_polar.api.filters import EventFilters
        from airflow_provider_polar.engine.waiting.wait import names_of
        from airflow_provider_polar.engine.waiting.watch import Watch

        return Watch(
            names_of(self.event_name, "event_name"), EventFilters.parse(filters), timedelta(seconds=self.overlap)
        )

    def _cadence(self) -> Cadence:
        from airflow_provider_polar.engine.waiting.cadence import Cadence

        return Cadence(max(self.shortest_poll_interval, self.poll_interval))

    def _checkpoint(self) -> Checkpoint:
        kwargs = self.serialize()[1]
        identity: Mapping[str, Any] = {key: kwargs[key] for key in ("event_name", "filters", "polar_conn_id")}
        return Checkpoint(getattr(self, "asset_state_store", None), identity)


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
