"""Polar's API of events and meters as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any, get_args
from urllib.parse import parse_qsl

from airflow_provider_polar.testing.endpoints import Endpoints, Settings
from airflow_provider_polar.testing.errors import BrokenAnalytics, Invalid, ServerError
from airflow_provider_polar.testing.faults import Endpoint, Faults, OfMeters, Reading, RequestRecord
from airflow_provider_polar.testing.ingest import MAX_BODY, UnreadableBody
from airflow_provider_polar.testing.store import Store
from airflow_provider_polar.testing.wire import (
    PRIVATE,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    cut,
    json_response,
    plain_response,
    read,
    respond,
    send_response,
)

Control = Callable[[str, str, bytes], tuple[int, Any]]

VERSIONS = ("2026-04", "2026-10")
CONTROL_PREFIX = "/_local/"
SCOPES: dict[Endpoint, tuple[str, ...]] = {
    "ingest": ("events:write",),
    **dict.fromkeys(get_args(Reading), ("events:read", "events:write")),
    **dict.fromkeys(get_args(OfMeters), ("meters:read", "meters:write")),
    "customer_meters": ("customer_meters:read",),
}
"""The scopes of which one is needed."""
ROUTES: dict[Endpoint, tuple[str, str]] = {
    "list": ("GET", "/v1/events/"),
    "names": ("GET", "/v1/events/names"),
    "ingest": ("POST", "/v1/events/ingest"),
    "get": ("GET", "/v1/events/[^/]+"),
    "meters": ("GET", "/v1/meters/"),
    "meter": ("GET", "/v1/meters/[^/]+"),
    "quantities": ("GET", "/v1/meters/[^/]+/quantities"),
    "customer_meters": ("GET", "/v1/customer-meters/"),
}
"""The method and the path of each endpoint; the first that fits is meant."""


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
        self._endpoints = Endpoints(store, settings)
        self._limits = RateLimits()
        self._cost = Cost()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        body = await read(receive)
        if body is None:
            return
        parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        method, path = scope["method"], scope["path"]
        if path.startswith(CONTROL_PREFIX):
            status, content = self._control(method, path.removeprefix(CONTROL_PREFIX), body)
            await send_response(send, json_response(status, content))
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
            await cut(scope, receive, abruptly=True)
            return
        response = self._response(request)
        record.status = response.status
        if self.settings.cost is not None:
            await asyncio.sleep(max(0.0, self._cost.due(record, arrived) - time.monotonic()))
        await respond(request, response, receive, send)

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
            return plain_response(fault.status, "Internal Server Error" if fault.status >= 500 else "")
        token = _bearer(request.headers)
        known = self.store.directory.token(token) if token else None
        refusal = self._over_the_limit(request, token, known and known[0]) or _misdirected(request, version)
        if refusal is not None:
            return refusal
        if known is None:
            return _unauthorized(token)
        organization, scopes = known
        needed = SCOPES[request.record.endpoint]
        if not scopes.intersection(needed) or request.meets("missing_scope"):
            return _insufficient(needed)
        try:
            return json_response(*self._endpoints.respond(organization, request))
        except Invalid as invalid:
            return json_response(422, invalid.body)
        except UnreadableBody:
            return json_response(400, {"detail": "There was an error parsing the body"})
        except (ServerError, BrokenAnalytics):
            return plain_response(500, "Internal Server Error")

    def _over_the_limit(self, request: Request, token: str | None, organization: str | None) -> Response | None:
        if fault := request.meets("rate_limit"):
            return Response(429, headers=[("retry-after", str(fault.retry_after))])
        if self.settings.rate_limit is None:
            return None
        limit = self.settings.rate_limit if organization else RateLimits.UNKNOWN_TOKEN
        if not self._limits.exceeded(organization or f"token {token}", limit):
            return None
        return Response(429, headers=[("retry-after", str(math.ceil(limit[1])))])


def _endpoint(method: str, path: str) -> Endpoint:
    return next((name for name, (verb, pattern) in ROUTES.items() if verb == method and _fits(pattern, path)), "*")


def _fits(pattern: str, path: str) -> bool:
    return re.fullmatch(pattern, path) is not None


def _is_known(path: str) -> bool:
    return any(_fits(pattern, path) for _, pattern in ROUTES.values())


def _redirect(path: str) -> str | None:
    """Where a path with a missing or a needless slash leads."""
    other = path[:-1] if path.endswith("/") else f"{path}/"
    return other if _is_known(other) and not _is_known(path) else None


def _misdirected(request: Request, version: str) -> Response | None:
    """The response to what no endpoint takes."""
    record, scope = request.record, request.scope
    if version not in VERSIONS:
        return json_response(404, {"detail": "Not Found"})
    if record.method == "POST" and "content-length" not in request.headers:
        return json_response(411, {"detail": "Length Required"})
    if record.method == "POST" and len(request.body) > MAX_BODY:
        return json_response(413, {"detail": "Request Entity Too Large"})
    if target := _redirect(record.path):
        query = scope["query_string"].decode("latin-1")
        location = f"{scope['scheme']}://{request.headers.get('host', '')}{target}" + (f"?{query}" if query else "")
        return Response(307, headers=[("location", location), PRIVATE])
    if record.endpoint != "*":
        return None
    if not _is_known(record.path):
        return json_response(404, {"detail": "Not Found"})
    response = json_response(405, {"detail": "Method Not Allowed"})
    response.headers.append(("allow", "GET"))
    return response


def _bearer(headers: dict[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _unauthorized(token: str | None) -> Response:
    if token is None:
        response = json_response(401, {"error": "Unauthorized", "detail": "Unauthorized"})
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
