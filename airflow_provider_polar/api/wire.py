"""What both clients decide alike: headers, pacing, retries, and what an answer means. No I/O."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from airflow_provider_polar.api.errors import error_of, transport_error
from airflow_provider_polar.api.pacing import Pacer, shared_pacer
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarRateLimitError,
    PolarTransportError,
)

PRODUCTION = "https://api.polar.sh"
BASE_URLS = {"production": PRODUCTION, "sandbox": "https://sandbox-api.polar.sh"}
"""Polar's environments."""

T = TypeVar("T")


class Wire:
    """How one client speaks with one server.

    :raises PolarConfigurationError: for a missing or unsendable token, a wrong base URL, version, timeout or budget.
    """

    def __init__(
        self,
        token: str,
        base_url: str,
        api_version: str,
        timeout: float,
        retries: Retries,
        requests_per_minute: float | None,
    ) -> None:
        # Checked here because httpx would quote an unsendable header, and so the token, in its own error.
        if not token or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise PolarConfigurationError(
                "The access token is empty or holds spaces or other characters that no token has: "
                "set an organization access token as the connection's password."
            )
        if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", base_url):
            raise PolarConfigurationError(
                f"{base_url.split('@')[-1]!r} is not a base URL; it looks like {PRODUCTION}, "
                "without user, query or fragment."
            )
        if not re.fullmatch(r"[0-9A-Za-z.-]+", api_version):
            raise PolarConfigurationError(f"{api_version!r} is not an API version; it looks like 2026-04.")
        if timeout <= 0:
            raise PolarConfigurationError(f"timeout is {timeout}; it is a positive number of seconds.")
        if requests_per_minute is not None and requests_per_minute <= 0:
            raise PolarConfigurationError(f"requests_per_minute is {requests_per_minute}; it must be positive.")
        self._token = token
        self.base_url = base_url.rstrip("/")
        self.api_version = api_version
        self.timeout = timeout
        self.retries = retries
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        self.account = hashlib.sha256(f"{self.base_url}\0{token}".encode()).hexdigest()[:16]
        """Tells one server and token from another, and reveals neither."""
        self.pacer: Pacer = shared_pacer(self.base_url, digest, requests_per_minute)
        self._sent = itertools.count(1)
        self.requests_sent = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def options(self) -> dict[str, Any]:
        """Arguments of the httpx client. Redirects are errors: they would be a wrong path."""
        from airflow_provider_polar import __version__

        return {
            "base_url": self.base_url,
            "timeout": self.timeout,
            "follow_redirects": False,
            "headers": {
                "Authorization": f"Bearer {self._token}",
                "Polar-Version": self.api_version,
                "Accept": "application/json",
                "User-Agent": f"airflow-provider-polar/{__version__}",
            },
        }

    def controls(self, request: PolarRequest, retries: Retries | None) -> dict[str, Any]:
        """tenacity's arguments for one request."""
        return (retries or self.retries).controls(request)

    def build(self, http: httpx.Client | httpx.AsyncClient, request: PolarRequest) -> httpx.Request:
        """The httpx request; counts it as sent."""
        self.requests_sent = next(self._sent)
        headers = {"Content-Type": "application/json"} if request.content is not None else None
        return http.build_request(
            request.method,
            request.path,
            params=list(request.params) or None,
            content=request.content,
            headers=headers,
        )

    def unanswered(self, request: PolarRequest, error: Exception) -> PolarTransportError:
        """The error for a request without a complete answer."""
        return transport_error(request, error)

    def answer(self, request: PolarRequest, response: httpx.Response, decode: Callable[[bytes], T]) -> T:
        """The decoded answer, or the error that it means; tells the pacer of a 429."""
        error = error_of(request, response, api_version=self.api_version)
        if isinstance(error, PolarRateLimitError):
            self.pacer.throttled(error.retry_after)
        else:
            self.pacer.succeeded()
        if error is not None:
            raise error
        try:
            return decode(response.content)
        except ValueError:
            # Not chained: the decoder's error quotes the body, which may hold personal data.
            raise transport_error(request, ValueError("the answer's body is broken or cut short")) from None
