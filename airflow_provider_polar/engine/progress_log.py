"""What a user sees of an export or an ingest while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_polar.wording import number_of

_EVERY = 5.0


class ProgressLog:
    """Counts events and says at most every five seconds how far it is. Thread-safe.

    :param log: where to say it.
    :param what: what is done, in words.
    :param total: events expected.
    :param done: events that an earlier attempt has done already.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        log: Any,
        what: str,
        *,
        total: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._what = what
        self._total = total
        self._done = done
        self._new = 0
        self._clock = clock
        self._started = self._said = clock()
        self._lock = threading.Lock()

    def add(self, events: int) -> None:
        """Counts events; a log line where it is time for one."""
        with self._lock:
            self._done += events
            self._new += events
            now = self._clock()
            if now - self._said < _EVERY:
                return
            self._said = now
            rate = self._new / (now - self._started)
            left = max(0, self._total - self._done) / rate if rate else 0.0
            self._log.info(
                "%s: %s of about %s, %s a second, about %s left",
                self._what,
                f"{self._done:,}",
                number_of(self._total, "event"),
                f"{rate:,.0f}",
                f"{left:,.0f} s" if left < 120 else f"{left / 60:,.0f} min",
            )
