"""From an answer to the error it means. Plain decisions, used by both clients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarApiError,
    PolarAuthenticationError,
    PolarNotFoundError,
    PolarRateLimitError,
    PolarScopeError,
    PolarServerError,
    PolarTransportError,
    PolarValidationError,
    PolarVersionError,
)

_VARIANTS = {"EventCreateCustomer": "customer_id", "EventCreateExternalCustomer": "external_customer_id"}
_SAMPLE = 200  # characters of an unexpected body that are worth showing


def error_of(request: PolarRequest, response: httpx.Response, *, api_version: str) -> PolarApiError | None:
    """The error that the answer means, None for a good one."""
    status = response.status_code
    if 200 <= status < 300:
        return None
    where: dict[str, Any] = {"status": status, "method": request.method, "path": request.path}
    body = _body(response)
    if status == 401:
        reason = body.get("error_description") or "no access token was accepted"
        return PolarAuthenticationError(
            f"Polar refused the access token ({reason.rstrip('.')}). Set a valid organization access token, made in "
            "the same environment (production or sandbox), as the connection's password.",
            **where,
        )
    if status == 403:
        scopes = _scopes(response)
        named = " or ".join(scopes) or "one that Polar does not name"
        return PolarScopeError(
            f"The access token lacks a scope for {request.method} {request.path}: it needs {named}.",
            scopes=scopes,
            **where,
        )
    if status == 404 and "error" not in body:
        return PolarVersionError(
            f"{request.path} is not known there: API version {api_version!r} or the base URL is wrong.",
            **where,
        )
    if status == 404:
        return PolarNotFoundError(
            f"Polar has no event {request.path.rsplit('/', 1)[-1]} (a new one takes moments to become visible).",
            **where,
        )
    if status == 413:
        return PolarValidationError("The request's body is larger than Polar takes: send smaller batches.", **where)
    if status in (400, 411, 422):
        problems = problems_of(body.get("detail"))
        told = "; ".join(map(str, problems[:5])) or _sample(response)
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        return PolarValidationError(
            f"Polar refused {request.method} {request.path}: {told}{more}", problems=problems, **where
        )
    if status == 429:
        seconds = retry_after(response)
        return PolarRateLimitError(
            f"The organization's request budget at Polar is used up; Polar asks to wait {seconds:g} s. "
            "It is shared by all tokens of the organization: lower requests_per_minute.",
            retry_after=seconds,
            **where,
        )
    if status >= 500:
        return PolarServerError(f"Polar failed to answer {request.method} {request.path} (HTTP {status}).", **where)
    return PolarApiError(
        f"Polar answered {request.method} {request.path} with HTTP {status}: {_sample(response)}", **where
    )


def transport_error(request: PolarRequest, error: Exception) -> PolarTransportError:
    """No complete answer came; ``error`` is httpx's (or a decoder's) word for why."""
    reason = str(error) or type(error).__name__
    return PolarTransportError(
        f"No complete answer from Polar to {request.method} {request.path}: {reason}",
        method=request.method,
        path=request.path,
    )


def retry_after(response: httpx.Response) -> float:
    """Seconds of the Retry-After header; 60, Polar's usual window, where it is missing or unreadable."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "60")))
    except ValueError:
        return 60.0


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
            value_path, message = path[:2], _metadata_value(entry)
            found.setdefault(EventProblem(index, ".".join(value_path), message))
        else:
            found.setdefault(EventProblem(index, ".".join(path), message))
    for index, variants in missing.items():
        if len(variants) == len(_VARIANTS):
            found.setdefault(EventProblem(index, "", "needs exactly one of customer_id and external_customer_id"))
    return list(found)


def _place(loc: Any) -> tuple[int | None, str, list[str]]:
    """Index of the event, variant of the union, and the field's path."""
    path = list(loc) if isinstance(loc, (list, tuple)) else []
    if path[:2] == ["body", "events"] and len(path) > 2 and isinstance(path[2], int):
        index, rest = path[2], [str(p) for p in path[3:]]
        if rest and rest[0] in _VARIANTS:
            return index, rest[0], rest[1:]
        return index, "", rest
    return None, "", [str(p) for p in path]


def _metadata_value(entry: Mapping[str, Any]) -> str:
    value = entry.get("input")
    if value == "":
        return "is empty; text has 1 to 500 characters"
    if isinstance(value, str):
        return f"has {len(value)} characters; text has 1 to 500"
    kind = "null" if value is None else "a list" if isinstance(value, list) else "nested"
    return f"is {kind}; values are text, numbers or booleans"


def _in_words(entry: Mapping[str, Any]) -> str:
    message = str(entry.get("msg", "invalid"))
    return message.removeprefix("Value error, ").rstrip(".")


def _scopes(response: httpx.Response) -> tuple[str, ...]:
    match = re.search(r'scope="([^"]*)"', response.headers.get("www-authenticate", ""))
    return tuple(match.group(1).split()) if match else ()


def _body(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _sample(response: httpx.Response) -> str:
    return response.text[:_SAMPLE] or "an empty body"
