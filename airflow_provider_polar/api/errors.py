"""From a response to the error it means. Plain decisions, used by both clients.

Nothing of a body is quoted but what is known to hold no input: a response may repeat event content, and a proxy's page
the request's headers.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from airflow_provider_polar.api.bodies import UnusableBody
from airflow_provider_polar.api.limits import MAX_TEXT
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.server import Server
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarApiError,
    PolarAuthenticationError,
    PolarNotFoundError,
    PolarRateLimitError,
    PolarResponseError,
    PolarScopeError,
    PolarServerError,
    PolarTransportError,
    PolarValidationError,
    PolarVersionError,
)

_VARIANTS = {"EventCreateCustomer": "customer_id", "EventCreateExternalCustomer": "external_customer_id"}
_TRANSIENT = frozenset({408, 421, 425, 499})
"""Client errors that the network between is to blame for, not the request."""
_RETRY_AFTER, _LONGEST_RETRY_AFTER = 60.0, 300.0
_KNOWN_WORDS = re.compile(
    r"Field required|Extra inputs are not permitted|JSON decode error"
    r"|(Input should be a valid [A-Za-z ]+|Invalid JSON)(?=[,:]|$)"
    r"|(String|List|Dictionary|Tuple) should have at (most|least) \d+ (character|item)s?\b"
    r"|String should match pattern '[^']{1,40}'$|Input should have timezone info"
    r"|Input should be (greater|less) than (or equal to )?[\d.-]+$|Input should be (a finite number|None)$"
    r"|Input should be '[a-z_-]+'((, | or )'[a-z_-]+')*$"
    r"|Timestamp must be in the past|(Customer|Member|Event|Meter|Organization|Parent event) not found"
    r"|Setting organization_id is disallowed when using an organization token"
    r"|Query is only supported when organization_id is provided"
    r"|The interval is too small for the given date range"
)
"""Polar's and pydantic's texts that hold nothing of the input, up to where they might."""
_FIELD = re.compile(r"[\w.:/-]{1,64}")
_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EPIPE: "the connection was closed",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
}
_TRANSPORT: tuple[tuple[Any, str, bool], ...] = (
    (httpx.ConnectTimeout, "no connection within {timeout:g} s", False),
    (httpx.PoolTimeout, "no connection was free within {timeout:g} s", False),
    (httpx.ProxyError, "the proxy refused", False),
    (httpx.ConnectError, "no connection", False),
    (
        (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError),
        "the request cannot be sent ({kind})",
        False,
    ),
    (httpx.TimeoutException, "nothing was received or taken for {timeout:g} s", True),
    (TimeoutError, "it was not there, whole, within {deadline:g} s", True),
    (httpx.RemoteProtocolError, "the connection was closed before its end, or what came is not HTTP", True),
    (httpx.HTTPError, "the connection broke", True),
    (Exception, "its body is broken or cut short", True),
)
"""Why there is no complete response, and whether anything may have been sent; the first that fits."""
E = TypeVar("E", bound=PolarApiError)


def error_of(
    request: PolarRequest, status: int, headers: httpx.Headers, content: bytes, server: Server
) -> PolarApiError | None:
    """The error that the response means, None for a good one."""
    if 200 <= status < 300:
        return None
    brief = f"Polar responded to {request.method} {request.path} with HTTP {status}"

    def error(kind: type[E], what: str, advice: str = "", **facts: Any) -> E:
        return _error(kind, request, server, what, advice, **{"status": status, "brief": brief, **facts})

    body = _body(content)
    if status == 429:
        seconds = retry_after(headers)
        what = f"The organization's request budget at Polar is used up; Polar says to wait {seconds:g} s"
        advice = ". It is shared by all tokens of the organization: lower requests_per_minute"
        return error(PolarRateLimitError, what, advice, retry_after=seconds)
    if status >= 500 or status in _TRANSIENT:
        return error(PolarServerError, brief, _retry_advice(request))
    if body is None and _is_cut_short(headers, content):
        cut_short = f"{brief} and a body that is cut short"
        what = f"{brief}, and the body that says why is cut short"
        return error(PolarTransportError, what, _retry_advice(request), brief=cut_short)
    body = body or {}
    if status == 401:
        given = "it is wrong, expired or revoked" if body.get("error") == "invalid_token" else "none was accepted"
        advice = (
            ". Set a valid organization access token, made in the same environment (production or sandbox), as the "
            "connection's password"
        )
        return error(PolarAuthenticationError, f"Polar refused the access token: {given}", advice)
    if status == 403:
        scopes = _scopes(headers)
        named = " or ".join(scopes) or "one that Polar does not name"
        what = f"The access token lacks a scope for {request.method} {request.path}: it needs {named}"
        return error(PolarScopeError, what, scopes=scopes)
    if status == 404 and "error" not in body:
        what = f"{request.path} is not known there: API version {server.api_version!r} or the base URL is wrong"
        return error(PolarVersionError, what)
    if status == 404:
        thing, identity = request.path.split("/")[2:4]
        advice = "; a new one becomes visible in moments" if thing == "events" else ""
        return error(PolarNotFoundError, f"Polar has no {thing.removesuffix('s')} {identity}", advice)
    if status == 413:
        return error(PolarValidationError, "The request's body is larger than Polar takes", ": send smaller batches")
    if status in (400, 411, 422):
        problems = problems_of(body.get("detail"))
        told = "; ".join(map(str, problems[:5])) or f"HTTP {status}, for no reason that can be shown"
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        what = f"Polar refused {request.method} {request.path}: {told}{more}"
        return error(PolarValidationError, what, problems=problems)
    redirection, advice = (", a redirection", ": the base URL is wrong") if status < 400 else ("", "")
    return error(PolarApiError, f"{brief}{redirection}", advice)


def failure_of(request: PolarRequest, error: Exception, server: Server, deadline: float) -> PolarTransportError:
    """The error for a request that no complete response came to, or one that cannot be used.

    httpx's own words are not used: they may quote headers."""
    if isinstance(error, UnusableBody):
        what = f"Polar's response to {request.method} {request.path} (HTTP {error.status}) cannot be used: {error}"
        return _error(PolarResponseError, request, server, what, status=error.status, brief=what)
    reason, sent = _reason(error, server.timeout, deadline)
    to = f"No complete response from Polar to {request.method} {request.path}" if sent else "Polar cannot be reached"
    what = f"{to}: {reason}"
    return _error(PolarTransportError, request, server, what, _retry_advice(request), sent=sent, brief=what)


def _error(kind: type[E], request: PolarRequest, server: Server, what: str, advice: str = "", **facts: Any) -> E:
    return kind(f"{what} ({server}){advice}", method=request.method, path=request.path, **facts)


def _retry_advice(request: PolarRequest) -> str:
    """What can be said of a retry here: that of an ingest is for those to say who know what was stored."""
    return ". A retry usually helps" if request.method == "GET" else ""


def _reason(error: Exception, timeout: float, deadline: float) -> tuple[str, bool]:
    """Why there is no complete response, and whether anything may have been sent."""
    words, sent = next((words, sent) for kinds, words, sent in _TRANSPORT if isinstance(error, kinds))
    if isinstance(error, httpx.NetworkError):
        words = _system_reason(error) or words
    elif isinstance(error, httpx.ProxyError) and (code := re.match(r"[1-5]\d\d\b", str(error))):
        words += f" with HTTP {code[0]}"
    return words.format(timeout=timeout, deadline=deadline, kind=type(error).__name__), sent


def _system_reason(error: BaseException) -> str | None:
    """What the operating system, the resolver or the TLS library said at the root of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _REASONS:
            return _REASONS[cause.errno]
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "the certificate of the server is not trusted"
    if "SSL" in text or "TLS" in text:
        return "the TLS handshake failed"
    if any(word in text for word in ("Name or service not known", "name resolution", "nodename", "No address")):
        return "the name of the host is not known"
    return None


def retry_after(headers: httpx.Headers) -> float:
    """Seconds of the Retry-After header, 0 to 300; 60, Polar's usual window, where it is missing or unreadable."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            seconds = math.nan
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER) if math.isfinite(seconds) else _RETRY_AFTER


def problems_of(detail: Any) -> list[EventProblem]:
    """Polar's validation errors, each problem once.

    Polar checks an event against two variants (with ``customer_id``, with ``external_customer_id``) and reports
    every error for each of them, together with the field that only the other variant needs.
    """
    if not isinstance(detail, list):
        return []
    found: dict[EventProblem, None] = {}
    missing: dict[int | None, set[str]] = {}
    for entry in detail:
        if not isinstance(entry, Mapping):
            continue
        index, variant, path = _place(entry.get("loc"))
        if entry.get("type") == "missing" and variant and path == [_VARIANTS[variant]]:
            missing.setdefault(index, set()).add(variant)
            continue
        message = _in_words(entry)
        if path[:1] == ["metadata"] and len(path) > 2 and not path[1].startswith("_"):
            # One entry for each type a value might have had: text, integer, number, boolean.
            path, message = path[:2], _metadata_value(entry)
        found.setdefault(EventProblem(".".join(path), message, index))
    for index, variants in missing.items():
        if len(variants) == len(_VARIANTS):
            found.setdefault(EventProblem("", "needs exactly one of customer_id and external_customer_id", index))
    return list(found)


def _place(loc: Any) -> tuple[int | None, str, list[str]]:
    """Index of the event, variant of the union, and the field's path."""
    path = list(loc) if isinstance(loc, (list, tuple)) else []
    if path[:2] == ["body", "events"] and len(path) > 2 and isinstance(path[2], int):
        index, rest = path[2], [_field(p) for p in path[3:]]
        if rest and rest[0] in _VARIANTS:
            return index, rest[0], rest[1:]
        return index, "", rest
    return None, "", [_field(p) for p in path]


def _field(name: Any) -> str:
    """A component of a place, unless it looks like content."""
    return str(name) if _FIELD.fullmatch(str(name)) else "(a name that is not shown)"


def _metadata_value(entry: Mapping[str, Any]) -> str:
    value = entry.get("input")
    if value == "":
        return f"is empty; text has 1 to {MAX_TEXT} characters"
    if isinstance(value, str):
        return f"has {len(value)} characters; text has 1 to {MAX_TEXT}"
    kind = "null" if value is None else "a list" if isinstance(value, list) else "nested"
    return f"is {kind}; values are text, numbers or booleans"


def _in_words(entry: Mapping[str, Any]) -> str:
    """Polar's own words where they are known to hold nothing of the input, else the kind of the problem."""
    message = str(entry.get("msg", "")).removeprefix("Value error, ")
    if known := _KNOWN_WORDS.match(message):
        return known[0].strip()
    kind = str(entry.get("type", ""))
    return f"is invalid ({kind})" if re.fullmatch(r"[a-z_]{1,40}", kind) else "is invalid"


def _scopes(headers: httpx.Headers) -> tuple[str, ...]:
    match = re.search(r'scope="([^"]{1,200})"', headers.get("www-authenticate", ""))
    return tuple(s for s in match[1].split() if re.fullmatch(r"[a-z_]+:(read|write)", s)) if match else ()


def _body(content: bytes) -> Mapping[str, Any] | None:
    """The JSON object of a body; empty for other JSON, None for what is no JSON."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, Mapping) else {}


def _is_cut_short(headers: httpx.Headers, content: bytes) -> bool:
    """Whether a body that is no JSON was to be some: a proxy's own page is not."""
    return "json" in headers.get("content-type", "") or content.lstrip()[:1] in (b"{", b"[")
