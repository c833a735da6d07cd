"""Where a watcher's cursors survive a restart: its assets' state stores (Airflow 3.3 and newer)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow_provider_polar.engine.waiting.cursor import WatchCursor

log = logging.getLogger(__name__)


class Checkpoint:
    """Loads and stores the cursors of one watcher, one for each event name. Never raises.

    A cursor is found again whatever other names are watched, in whatever order. For other filters it is another one;
    so that a changed filter loses nothing, a name's cursor without a past begins as a copy of the one that was last
    used for that name.

    Assets whose watchers have the same arguments share one trigger. Where one of them is given other arguments, that
    trigger runs on for the others and moves this one's cursor, too, with events that Airflow no longer gives it. So
    such a cursor names its assets, and a trigger of other assets delivers again what the overlap holds.

    :param store: Airflow's accessors of the watched assets; None where it has none.
    :param polar_conn_id: the connection.
    :param filters: what else the events must meet, in its one form.
    """

    pause: ClassVar[float] = 10.0
    """Seconds before a store that gave an error is tried again."""

    def __init__(self, store: Any, polar_conn_id: str, filters: Mapping[str, Any] | None) -> None:
        self._accessors = _accessors(store)
        self._assets = sorted(self._accessors)
        self._identity = (polar_conn_id, filters or None)
        self._stored: dict[str, Any] = {}
        if not self._accessors:
            log.info("No state store for this watcher's asset: it starts anew with each triggerer.")

    async def load(self, name: str) -> WatchCursor | None:
        """The stored cursor of a name, None where there is none."""
        last_used = self._last_used(name)
        loaded = [await self._load(accessor, self._key(name), last_used) for accessor in self._accessors.values()]
        found = [cursor for cursor in loaded if cursor is not None]
        # Of several assets the one that is furthest behind, so that none misses anything.
        cursor = min(found, key=lambda cursor: cursor.since, default=None)
        if cursor is not None and any(self._is_of_others(one) for one in found):
            log.info("The cursor of %s was kept for other assets, too: what the overlap holds comes again.", name)
            cursor.forget()
        return cursor

    def _is_of_others(self, cursor: WatchCursor) -> bool:
        return len(cursor.assets) > 1 and cursor.assets != self._assets

    async def _load(self, accessor: Any, key: str, last_used: str) -> WatchCursor | None:
        from airflow_provider_polar.engine.waiting.cursor import WatchCursor

        value = await self._patiently_get(accessor, key)
        copied = value is None
        if copied:
            other = await self._patiently_get(accessor, last_used)
            value = await self._patiently_get(accessor, str(other)) if other is not None else None
        if value is None:
            return None
        try:
            cursor = WatchCursor.from_dict(value)
        except ValueError as error:
            log.error("The stored cursor of a watcher cannot be read (%s): it starts anew.", error)
            return None
        cursor.sure = not copied
        return cursor

    async def _patiently_get(self, accessor: Any, key: str) -> Any:
        # To start without the cursor would lose what happened since it was stored.
        while True:
            try:
                return await _call(accessor, "get", key)
            except Exception as error:
                log.warning("A watcher's cursor could not be loaded (%s): it is tried again.", type(error).__name__)
                await asyncio.sleep(self.pause)

    async def store(self, cursors: Mapping[str, Mapping[str, Any]]) -> None:
        """Stores the cursors, by name, that know of other events than the ones stored last."""
        for name, cursor in cursors.items():
            key, value = self._key(name), {**cursor, "assets": self._assets}
            if self._has_changed(key, value):
                await self._store(key, value)
            if self._has_changed(self._last_used(name), key):
                await self._store(self._last_used(name), key)

    def _has_changed(self, key: str, value: Any) -> bool:
        stored = self._stored.get(key)
        if isinstance(stored, Mapping) and isinstance(value, Mapping):
            return any(stored[part] != value[part] for part in ("origin", "begun", "known"))
        return bool(stored != value)

    async def _store(self, key: str, value: Any) -> None:
        try:
            for accessor in self._accessors.values():
                await _call(accessor, "set", key, value)
            self._stored[key] = value
        except Exception as error:
            log.warning("A watcher's cursor could not be stored (%s): it is tried again.", type(error).__name__)

    def _key(self, name: str) -> str:
        return _digest(name, *self._identity)

    def _last_used(self, name: str) -> str:
        return _digest(name, self._identity[0])


def _digest(*identity: Any) -> str:
    return "polar_watch_" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _accessors(store: Any) -> dict[str, Any]:
    """One accessor for each asset that the trigger serves. Called directly, a store of several raises ValueError."""
    if store is None:
        return {}
    return {**getattr(store, "_by_name", {}), **getattr(store, "_by_uri", {})} or {"": store}


async def _call(accessor: Any, method: str, *args: Any) -> Any:
    # The asynchronous methods came with Airflow 3.3.2.
    if hasattr(accessor, f"a{method}"):
        return await getattr(accessor, f"a{method}")(*args)
    return await asyncio.to_thread(getattr(accessor, method), *args)
