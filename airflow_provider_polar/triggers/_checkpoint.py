"""Where a watcher's cursor survives a restart: its asset's state store (Airflow 3.3 and newer)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow_provider_polar.engine.waiting.watch import WatchCursor

log = logging.getLogger(__name__)


class Checkpoint:
    """Loads and stores one watcher's cursor; without a store, does nothing. Never raises.

    :param store: Airflow's accessors of the watched assets; None before Airflow 3.3.
    :param identity: what makes this watcher another one than others of the same asset.
    """

    turns: ClassVar[int] = 5
    """Seconds that Airflow is given to store the asset event itself, before the cursor passes over it."""
    pause: ClassVar[float] = 10.0
    """Seconds before a store that gave an error is tried again."""

    def __init__(self, store: Any, identity: Mapping[str, Any]) -> None:
        self._accessors = _accessors(store)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.key = f"polar_watch_{digest}"
        self._stored: dict[str, Any] | None = None
        if not self._accessors:
            log.info("No state store for this watcher's asset: it starts anew with each triggerer.")

    async def load(self) -> WatchCursor | None:
        """The stored cursor, None where there is none."""
        from airflow_provider_polar.engine.waiting.watch import WatchCursor

        for accessor in self._accessors:
            value = await self._patiently_get(accessor)
            if value is None:
                continue
            try:
                cursor = WatchCursor.from_dict(value)
                self._stored = value
                return cursor
            except ValueError as error:
                log.error("The stored cursor of a watcher cannot be read (%s): it starts anew.", error)
        return None

    async def _patiently_get(self, accessor: Any) -> Any:
        # To start without the cursor would lose what happened since it was stored.
        while True:
            try:
                return await _call(accessor, "get", self.key)
            except Exception as error:
                log.warning("A watcher's cursor could not be loaded (%s): it is tried again.", type(error).__name__)
                await asyncio.sleep(self.pause)

    async def store(self, cursor: WatchCursor, *, at_once: bool = False) -> None:
        """Stores a cursor that knows of other events than the one stored last.

        :param at_once: nothing was yielded that this cursor passes over.
        """
        if not self._accessors:
            return
        value = cursor.to_dict()
        if self._stored is not None and self._stored["known"] == value["known"]:
            return
        if not at_once:
            # In turns of the event loop: one long sleep could end before a triggerer that was held up has sent
            # anything on.
            for _ in range(self.turns):
                await asyncio.sleep(1)
        try:
            for accessor in self._accessors:
                await _call(accessor, "set", self.key, value)
            self._stored = value
        except Exception as error:
            log.warning("A watcher's cursor could not be stored (%s): it is tried again.", type(error).__name__)


def _accessors(store: Any) -> list[Any]:
    """One accessor for each asset that the trigger serves. Called directly, a store of several raises ValueError."""
    if store is None:
        return []
    several = {**getattr(store, "_by_name", {}), **getattr(store, "_by_uri", {})}
    return [several[name] for name in sorted(several)] or [store]


async def _call(accessor: Any, method: str, *args: Any) -> Any:
    # The asynchronous methods came with Airflow 3.3.2.
    if hasattr(accessor, f"a{method}"):
        return await getattr(accessor, f"a{method}")(*args)
    return await asyncio.to_thread(getattr(accessor, method), *args)
