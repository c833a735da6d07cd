"""Polar's four endpoints as an ASGI application."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import math
import socket
import struct
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import UUID4, TypeAdapter, ValidationError

from airflow_provider_polar.testing.errors import BrokenAnalytics, Invalid
from airflow_provider_polar.testing.faults import Endpoint, Fault, FaultKind, Faults, RequestRecord
from airflow_provider_polar.testing.ingest import MAX_BODY, ServerError, UnreadableBody, ingest
from airflow_provider_polar.testing.query import (
    MAX_LIMIT,
    EventSort,
    ListQuery,
    NamesQuery,
    milliseconds,
    parse,
    select_events,
    select_names,
)
from airflow_provider_polar.testing.store import Lag, Store, label, new_event
from airflow_provider_polar.testing.times import to_text

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Control = Callable[[str, str, bytes], tuple[int, Any]]

VERSIONS = ("2026-04", "2026-10")
PRIVATE = ("cache-control", "private, no-store")
CONTROL_PREFIX = "/_local/"
BOMB = 100_000_000
"""Bytes that a gzip bomb unpacks to."""
_EVENT_ID = TypeAdapter(UUID4)
_NAMES_COLUMNS = {"name": 0, "occurrences": 2, "first_seen": 3, "last_seen": 4}


@dataclass
class Settings:
    """How this local Polar behaves; may be changed while it runs."""

    environment: Literal["sandbox", "production"] = "sandbox"
    visibility_lag: Lag = 0.0
    rate_limit: tuple[int, float] | None = None
    bounds: Literal["millisecond", "second"] = "millisecond"
    collapse_duplicates: bool = True
    analytics: bool = True
    cost: Literal["polar"] | None = None


@dataclass
class Request:
    """A request as it came, and the fault that it meets."""

    record: RequestRecord
    headers: dict[str, str]
    scope: Scope
    body: bytes
    fault: Fault | None

    def meets(self, kind: FaultKind) -> Fault | None:
        """The fault, if it is of this kind."""
        return self.fault if self.fault is not None and self.fault.kind == kind else None


@dataclass
class Response:
    """A response, before any fault of sending it."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


class RateLimits:
    """A fixed window that starts with its first request, one for each organization over all its tokens."""

    UNKNOWN_TOKEN = (60, 60.0)

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def exceeded(self, key: str, limit: tuple[int, float]) -> bool:
        requests, seconds = limit
        now = time.monotonic()
        start, count = self._windows.get(key, (now, 0))
        if now - start >= seconds:
            start, count = now, 0
        self._windows[key] = (start, count + 1)
        return count + 1 > requests


class Cost:
    """The time that Polar's own server takes, as it was measured: see Settings.cost.

    A page takes 50 ms at the front and 100 ms at page 10,000, and two at once double the throughput. A batch of 1,000
    events takes 0.35 s, and several at once go no faster.
    """

    def __init__(self) -> None:
        self._free: dict[Endpoint, list[float]] = {"list": [0.0, 0.0], "ingest": [0.0]}

    def due(self, record: RequestRecord, arrived: float) -> float:
        """The moment (monotonic seconds) at which Polar would respond to a request that arrived at `arrived`."""
        if record.endpoint not in self._free or record.status != 200:
            return arrived
        page = next((int(value) for key, value in record.params if key == "page"), 1)
        seconds = 0.05 + 0.0003 * (record.events or 0) if record.endpoint == "ingest" else 0.05 * (1 + page / 10_000)
        free = self._free[record.endpoint]
        first = free.index(min(free))
        free[first] = max(arrived, free[first]) + seconds
        return free[first]


class PolarApp:
    """The ASGI application. What it decides is plain code; what it sends, and how it fails to, comes after."""

    def __init__(self, store: Store, settings: Settings, faults: Faults, control: Control) -> None:
        self.store = store
        self.settings = settings
        self.faults = faults
        self.requests: list[RequestRecord] = []
        self.callbacks: list[Callable[[RequestRecord], None]] = []
        self._control = control
        self._limits = RateLimits()
        self._cost = Cost()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        body = await _read(receive)
        if body is None:
            return
        parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        method, path = scope["method"], scope["path"]
        if path.startswith(CONTROL_PREFIX):
            status, content = self._control(method, path.removeprefix(CONTROL_PREFIX), body)
            await _send(send, _json(status, content))
            return
        record = RequestRecord(time.time(), method, path, _endpoint(method, path), parameters)
        record.body_bytes = len(body)
        with self._lock:
            self.requests.append(record)
            callbacks = list(self.callbacks)
        for callback in callbacks:
            callback(record)
        request = Request(record, headers, scope, body, self.faults.strike(record))
        if fault := request.meets("delay"):
            await asyncio.sleep(fault.delay)
        if request.meets("reset"):
            await _cut(scope, receive, abruptly=True)
            return
        response = self._response(request)
        record.status = response.status
        if self.settings.cost is not None:
            await asyncio.sleep(max(0.0, self._cost.due(record, arrived) - time.monotonic()))
        await _respond(request, response, receive, send)

    def _response(self, request: Request) -> Response:
        version = request.headers.get("polar-version") or VERSIONS[0]
        response = self._decide(request, version)
        if not (response.status == 404 and version not in VERSIONS):
            response.headers.append(("polar-version", version if version in VERSIONS else VERSIONS[0]))
        if self.settings.environment == "sandbox":
            response.headers.append(("x-polar-sandbox", "1"))
        return response

    def _decide(self, request: Request, version: str) -> Response:
        if fault := request.meets("status"):
            return _plain(fault.status, "Internal Server Error" if fault.status >= 500 else "")
        token = _bearer(request.headers)
        known = self.store.directory.token(token) if token else None
        refusal = self._over_the_limit(request, token, known and known[0]) or _misdirected(request, version)
        if refusal is not None:
            return refusal
        if known is None:
            return _unauthorized(token)
        organization, scopes = known
        needed = ("events:write",) if request.record.endpoint == "ingest" else ("events:read", "events:write")
        if not scopes.intersection(needed) or request.meets("missing_scope"):
            return _insufficient(needed)
        try:
            return _json(*self._content(organization, request))
        except Invalid as invalid:
            return _json(422, invalid.body)
        except UnreadableBody:
            return _json(400, {"detail": "There was an error parsing the body"})
        except (ServerError, BrokenAnalytics):
            return _plain(500, "Internal Server Error")

    def _over_the_limit(self, request: Request, token: str | None, organization: str | None) -> Response | None:
        if fault := request.meets("rate_limit"):
            return Response(429, headers=[("retry-after", str(fault.retry_after))])
        if self.settings.rate_limit is None:
            return None
        limit = self.settings.rate_limit if organization else RateLimits.UNKNOWN_TOKEN
        if not self._limits.exceeded(organization or f"token {token}", limit):
            return None
        return Response(429, headers=[("retry-after", str(math.ceil(limit[1])))])

    def _content(self, organization: str, request: Request) -> tuple[int, dict[str, Any]]:
        endpoint, params = request.record.endpoint, request.record.params
        if endpoint == "ingest":
            return self._ingest(organization, request)
        if not self.settings.analytics:
            raise BrokenAnalytics("the analytics store is down")
        read = {"list": self._list, "names": self._names, "get": self._get}[endpoint]
        status, content = read(organization, request)
        if "items" not in content:
            return status, content
        if fault := request.meets("short_page"):
            del content["items"][max(0, len(content["items"]) - fault.rows) :]
        if fault := request.meets("count"):
            size = next((int(value) for key, value in params if key == "limit"), 10)
            content = _listing(content["items"], fault.total_count, min(size, MAX_LIMIT))
        return status, content

    def _ingest(self, organization: str, request: Request) -> tuple[int, dict[str, Any]]:
        result = ingest(
            self.store,
            organization,
            request.body,
            request.headers.get("content-type", ""),
            visible_after=self.settings.visibility_lag,
            deadlock=request.meets("deadlock") is not None,
        )
        request.record.events = result.inserted + result.duplicates
        return 200, {"inserted": result.inserted, "duplicates": result.duplicates}

    def _list(self, organization: str, request: Request) -> tuple[int, dict[str, Any]]:
        query = parse(ListQuery, request.record.params)
        selection = select_events(self.store, organization, query, request.record.params)
        after = milliseconds(query.start_timestamp, self.settings.bounds)
        before = milliseconds(query.end_timestamp, self.settings.bounds)

        def count() -> int:
            return self.store.matching(selection, after=after, before=before)

        # Polar counts and gives by two queries: an event can arrive between them, whichever comes first.
        arrival = request.meets("arrival")
        total = count()
        if arrival is not None and arrival.before == "page":
            self._arrive(organization, arrival)
        ids = self.store.page(
            selection,
            after=after,
            before=before,
            descending=query.sorting[0] is EventSort.timestamp_descending,
            page=query.page,
            limit=query.page_size,
        )
        if arrival is not None and arrival.before == "count":
            self._arrive(organization, arrival)
            total = count()
        if not ids and query.page > 1:
            total = 0
        if self.settings.collapse_duplicates:
            ids = list(dict.fromkeys(ids))
        rows = self.store.rows(organization, ids)
        items = [rows[event_id] for event_id in ids if event_id in rows]
        return 200, _listing(items, total, query.page_size)

    def _arrive(self, organization: str, fault: Fault) -> None:
        self.store.add(organization, (new_event(self.store, event) for event in fault.events))

    def _names(self, organization: str, request: Request) -> tuple[int, dict[str, Any]]:
        query = parse(NamesQuery, request.record.params)
        counted = self.store.names(select_names(self.store, organization, query))
        for criterion in reversed(query.sorting):
            column = _NAMES_COLUMNS[criterion.value.removeprefix("-")]
            counted.sort(key=itemgetter(column), reverse=criterion.value.startswith("-"))
        items = [
            {
                "name": name,
                "label": label(name, source),
                "source": source,
                "occurrences": occurrences,
                "first_seen": to_text(first * 1000),
                "last_seen": to_text(last * 1000),
            }
            for name, source, occurrences, first, last in counted
        ]
        first = (query.page - 1) * query.page_size
        return 200, _listing(items[first : first + query.page_size], len(items), query.page_size)

    def _get(self, organization: str, request: Request) -> tuple[int, dict[str, Any]]:
        text = request.record.path.removeprefix("/v1/events/")
        try:
            event_id = str(_EVENT_ID.validate_python(text))
        except ValidationError as error:
            raise Invalid.from_pydantic(error, "path", "id") from error
        row = self.store.rows(organization, [event_id]).get(event_id)
        if row is None or not self.store.is_visible(organization, event_id):
            return 404, {"error": "ResourceNotFound", "detail": "Not found"}
        return 200, row | {"child_count": 0}


def _endpoint(method: str, path: str) -> Endpoint:
    match method, path:
        case "GET", "/v1/events/":
            return "list"
        case "GET", "/v1/events/names":
            return "names"
        case "POST", "/v1/events/ingest":
            return "ingest"
        case "GET", _ if path.startswith("/v1/events/") and "/" not in path.removeprefix("/v1/events/"):
            return "get"
    return "*"


def _redirect(path: str) -> str | None:
    """Where a path with a missing or a needless slash leads."""
    if path == "/v1/events":
        return "/v1/events/"
    if path.startswith("/v1/events/") and path.endswith("/") and path.count("/") == 4:
        return path.rstrip("/")
    return None


def _misdirected(request: Request, version: str) -> Response | None:
    """The response to what no endpoint takes."""
    record, scope = request.record, request.scope
    if version not in VERSIONS:
        return _json(404, {"detail": "Not Found"})
    if record.method == "POST" and "content-length" not in request.headers:
        return _json(411, {"detail": "Length Required"})
    if record.method == "POST" and len(request.body) > MAX_BODY:
        return _json(413, {"detail": "Request Entity Too Large"})
    if target := _redirect(record.path):
        query = scope["query_string"].decode("latin-1")
        location = f"{scope['scheme']}://{request.headers.get('host', '')}{target}" + (f"?{query}" if query else "")
        return Response(307, headers=[("location", location), PRIVATE])
    if record.endpoint != "*":
        return None
    if not record.path.startswith("/v1/events/"):
        return _json(404, {"detail": "Not Found"})
    response = _json(405, {"detail": "Method Not Allowed"})
    response.headers.append(("allow", "GET"))
    return response


def _listing(items: list[dict[str, Any]], total: int, limit: int) -> dict[str, Any]:
    return {"items": items, "pagination": {"total_count": total, "max_page": math.ceil(total / limit)}}


def _bearer(headers: dict[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _unauthorized(token: str | None) -> Response:
    if token is None:
        response = _json(401, {"error": "Unauthorized", "detail": "Unauthorized"})
        response.headers += [("www-authenticate", 'Bearer realm="polar"')]
        return response
    why = "The access token provided is expired, revoked, malformed, or invalid for other reasons."
    return _oauth_error(401, "invalid_token", why, "")


def _insufficient(needed: tuple[str, ...]) -> Response:
    why = "The request requires higher privileges than provided by the access token."
    return _oauth_error(403, "insufficient_scope", why, f'scope="{" ".join(needed)}", ')


def _oauth_error(status: int, error: str, description: str, scope: str) -> Response:
    content = json.dumps({"error": error, "error_description": description}).encode()
    challenge = f'Bearer realm="polar", {scope}error="{error}", error_description="{description}"'
    headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("www-authenticate", challenge),
    ]
    return Response(status, content, headers)


def _json(status: int, content: Any) -> Response:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=_jsonable).encode()
    return Response(status, body, [("content-type", "application/json"), PRIVATE])


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else {}


def _plain(status: int, text: str) -> Response:
    return Response(status, text.encode(), [("content-type", "text/plain; charset=utf-8")])


async def _read(receive: Receive) -> bytes | None:
    """The body, to its end; what exceeds Polar's limit is read and forgotten. None if the client went away."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if size <= MAX_BODY:
            parts.append(part)
        size += len(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _respond(request: Request, response: Response, receive: Receive, send: Send) -> None:
    """Send a response, or fail to as a fault orders it."""
    match request.fault:
        case Fault("lost_response"):
            await _cut(request.scope, receive)
            return
        case Fault("truncated"):
            await _send(send, response, part=0.5)
            await _cut(request.scope, receive)
            return
        case Fault("drip" | "endless") as fault:
            await _trickle(receive, send, response, fault.delay, endless=fault.kind == "endless")
            return
        case Fault("broken"):
            response.body = response.body[: len(response.body) // 2]
        case Fault("rewrite") as fault:
            response.body = response.body.replace(fault.old.encode("latin-1"), fault.new.encode("latin-1"))
        case Fault("gzip_bomb"):
            response.body = gzip.compress(response.body + b" " * BOMB, 6)
            response.headers.append(("content-encoding", "gzip"))
    request.record.responded = True
    await _send(send, response)


async def _trickle(receive: Receive, send: Send, response: Response, delay: float, *, endless: bool) -> None:
    """Send a body a byte at a time, or all of it and then spaces for as long as the client listens."""
    headers = [(key.encode(), value.encode("latin-1")) for key, value in response.headers]
    if not endless:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    chunks = (
        itertools.chain([response.body[:-1]], itertools.repeat(b" " * 65_536)) if endless else _bytes(response.body)
    )
    gone = asyncio.ensure_future(receive())
    try:
        for chunk in chunks:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(delay)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        gone.cancel()


def _bytes(body: bytes) -> Iterator[bytes]:
    return (body[place : place + 1] for place in range(len(body)))


async def _send(send: Send, response: Response, part: float = 1.0) -> None:
    """Send a response, or the first part of it under the Content-Length of the whole."""
    headers = [(key.encode(), value.encode("latin-1")) for key, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = response.body[: int(len(response.body) * part)]
    await send({"type": "http.response.body", "body": body, "more_body": part < 1})


async def _cut(scope: Scope, receive: Receive, abruptly: bool = False) -> None:
    """Close the connection under the client: as a server that ends does, or abruptly with a reset."""
    transport = scope["extensions"]["polar.transport"]
    if abruptly:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
