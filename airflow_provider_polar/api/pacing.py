"""An evenly spread request budget, shared by everything in this process that uses one connection.

Polar counts requests in fixed windows, for the organization as a whole: its shop, its tokens, this provider.
Requests are therefore spread evenly over the minute, and a 429 makes all who share the budget wait and go slower.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MARGIN = 0.99
"""Share of the budget that is used: a request delayed on the network must not slip into a full window."""
_SLOWER, _SLOWEST, _FASTER = 0.75, 0.1, 1.02


class Pacer:
    """Hands out the moments at which requests may be sent. Thread-safe; it never sleeps itself.

    :param requests_per_minute: the budget; None for no pacing (a 429 still makes everybody wait).
    :param clock: monotonic seconds.
    """

    def __init__(
        self, requests_per_minute: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if requests_per_minute is not None and requests_per_minute <= 0:
            raise ValueError("requests_per_minute must be positive")
        self.requests_per_minute = requests_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._closed_until = 0.0
        self._pace = 1.0

    @property
    def interval(self) -> float:
        """Seconds between two requests at the present pace; 0 without a budget."""
        return 60.0 / (self.requests_per_minute * _MARGIN * self._pace) if self.requests_per_minute else 0.0

    def reserve(self) -> float:
        """Takes the next moment and returns it, in the clock's seconds."""
        with self._lock:
            now = self._clock()
            interval = self.interval
            # A caller that comes late by up to one interval has not lost its moment.
            moment = max(self._next, now - interval, self._closed_until)
            self._next = moment + interval
            return moment

    def delay(self, moment: float) -> float | None:
        """Seconds until a reserved moment, 0 when it has come; None where a 429 took it back: reserve again."""
        with self._lock:
            if moment < self._closed_until:
                return None
            return max(0.0, moment - self._clock())

    def throttled(self, retry_after: float) -> None:
        """A 429 came: nobody sends for ``retry_after`` seconds, and the pace goes down."""
        with self._lock:
            closed = self._clock() + retry_after
            if closed > self._closed_until:
                self._closed_until = closed
            self._next = max(self._next, self._closed_until)
            self._pace = max(_SLOWEST, self._pace * _SLOWER)

    def succeeded(self) -> None:
        """An answer came that was not a 429: the pace recovers slowly."""
        if self._pace < 1.0:
            with self._lock:
                self._pace = min(1.0, self._pace * _FASTER)


_shared: dict[tuple[str, str, float | None], Pacer] = {}
_shared_lock = threading.Lock()


def shared_pacer(base_url: str, token_digest: str, requests_per_minute: float | None) -> Pacer:
    """The one pacer of this process for a server, a token and a budget."""
    key = (base_url, token_digest, requests_per_minute)
    with _shared_lock:
        return _shared.setdefault(key, Pacer(requests_per_minute))
