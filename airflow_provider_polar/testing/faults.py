"""Faults to order, and the record of every request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

FaultKind = Literal[
    "status",
    "rate_limit",
    "missing_scope",
    "deadlock",
    "reset",
    "lost_response",
    "truncated",
    "broken",
    "delay",
    "drip",
    "endless",
    "gzip_bomb",
    "rewrite",
    "short_page",
    "count",
    "arrival",
]
Reading = Literal["list", "names", "get"]
OfMeters = Literal["meters", "meter", "quantities"]
Endpoint = Literal["ingest", Reading, OfMeters, "customer_meters", "*"]


@dataclass
class RequestRecord:
    """One request as the local Polar saw it. The Authorization header is not kept.

    `status` is None until it is decided, and stays so for a connection that ended before a response;
    `responded` says whether the response was sent whole.
    """

    time: float
    method: str
    path: str
    endpoint: Endpoint
    params: list[tuple[str, str]] = field(default_factory=list)
    status: int | None = None
    events: int | None = None
    body_bytes: int = 0
    responded: bool = False
    fault: str | None = None


@dataclass
class Fault:
    """What to do wrong, and when: see LocalPolar.fail."""

    kind: FaultKind
    status: int = 503
    path: Endpoint = "*"
    times: int | None = None
    every: int | None = None
    after: int = 0
    delay: float = 0.0
    retry_after: int = 60
    rows: int = 1
    total_count: int = 10**9
    events: Sequence[Mapping[str, Any]] = ()
    before: Literal["page", "count"] = "page"
    old: str = ""
    new: str = ""
    when: Callable[[RequestRecord], bool] | None = None
    seen: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(get_args(FaultKind))}")
        if self.path not in get_args(Endpoint):
            raise ValueError(f"no endpoint {self.path!r}; there are {', '.join(get_args(Endpoint))}")

        if self.before not in ("page", "count"):
            raise ValueError(f"events arrive before the 'page' or before the 'count', not before {self.before!r}")

    def strikes(self, record: RequestRecord) -> bool:
        if self.path not in ("*", record.endpoint) or (self.when is not None and not self.when(record)):
            return False
        self.seen += 1
        number = self.seen - self.after
        if number <= 0 or (self.times is not None and self.fired >= self.times):
            return False
        if self.every is not None and number % self.every != 0:
            return False
        self.fired += 1
        return True


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def strike(self, record: RequestRecord) -> Fault | None:
        """The fault that this request meets: the first ordered one whose turn it is."""
        with self._lock:
            for fault in self._faults:
                if fault.strikes(record):
                    record.fault = fault.kind
                    return fault
        return None

    def describe(self) -> list[dict[str, Any]]:
        with self._lock:
            return [{"kind": f.kind, "path": f.path, "seen": f.seen, "fired": f.fired} for f in self._faults]
