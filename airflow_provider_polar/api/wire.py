"""What both clients decide alike: headers, pacing, retries, and what a response means. No I/O."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import httpx

from airflow_provider_polar import __version__
from airflow_provider_polar.api import bodies
from airflow_provider_polar.api.errors import error_of, response_error, transport_error
from airflow_provider_polar.api.pacing import AT_ONCE, Pacer, shared_pacer
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.api.server import Server
from airflow_provider_polar.environments import DEFAULT_API_VERSION, DEFAULT_BASE_URL, DEFAULT_TIMEOUT
from airflow_provider_polar.exceptions import PolarApiError, PolarConfigurationError, PolarRateLimitError

T = TypeVar("T")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
log = logging.getLogger(__name__)


class Wire(Generic[Http]):
    """How a client speaks with its server."""

    _http_class: type[Http]

    def __init__(
        self,
        token: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        api_version: str = DEFAULT_API_VERSION,
        timeout: float = DEFAULT_TIMEOUT,
        retries: Retries | None = None,
        requests_per_minute: float | None = None,
        max_connections: int = 16,
        connection: str | None = None,
        allow_http: bool = False,
        at_once: float = AT_ONCE,
        transport: Any = None,
    ) -> None:
        self.server = Server(
            token, base_url.rstrip("/"), api_version, timeout, requests_per_minute, connection, allow_http, at_once
        )
        self.server.check()
        self.retries = retries or Retries()
        self.pacer: Pacer = shared_pacer(self.server.account, requests_per_minute, at_once)
        self.requests_sent = 0
        self.retries_made = 0
        self.seconds_waited = 0.0
        self.deadline = timeout * bodies.DEADLINE_FACTOR
        self._counting = threading.Lock()
        self._base = httpx.URL(self.server.base_url)
        fields = {
            "Authorization": f"Bearer {token}",
            "Polar-Version": api_version,
            "Accept": "application/json",
            "Accept-Encoding": bodies.ACCEPTED,
            "User-Agent": f"airflow-provider-polar/{__version__}",
        }
        self._headers = httpx.Headers(fields)  # which shows no token
        self._extensions = {"timeout": httpx.Timeout(timeout).as_dict()}
        limits = httpx.Limits(max_connections=max_connections)
        try:
            # Redirects are errors: they would be a wrong path.
            self._http: Http = self._http_class(
                timeout=timeout, follow_redirects=False, limits=limits, transport=transport
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            # Not quoted: a proxy's URL may hold a password.
            hint = "; a SOCKS proxy needs `pip install httpx[socks]`" if isinstance(error, ImportError) else ""
            raise PolarConfigurationError(
                "The proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE, SSL_CERT_DIR) that "
                f"the environment names cannot be used for {self.server}: {type(error).__name__}{hint}"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.base_url!r})"

    def _attempts(
        self, request: PolarRequest, retries: Retries | None, on_retry: Callable[[PolarApiError], None] | None
    ) -> Attempts:
        def tell(error: PolarApiError, pause: float, number: int) -> None:
            with self._counting:
                self.retries_made += 1
                self.seconds_waited += pause
            if on_retry is not None:
                on_retry(error)
            log.warning("%s (%s): waiting %.1f s, retry %d", error.brief, self.server, pause, number)

        return Attempts(retries or self.retries, request, tell)

    def _pauses(self, request: PolarRequest) -> Iterator[float]:
        """The pauses in seconds to make, one after the other, until the budget has room for the request.

        One line in the log tells of each stretch of long ones.
        """
        moment = self.pacer.reserve()
        while (delay := self.pacer.delay(moment)) != 0:
            if delay is None:
                moment = self.pacer.reserve()
            else:
                if self.pacer.is_new_long_wait(delay):
                    budget = f"{self.pacer.requests_per_minute:g}" if self.pacer.requests_per_minute else "unlimited"
                    log.info(
                        "%s %s waits %.0f s for the request budget of %s requests a minute or after a rate limit, and "
                        "others may do so, too (%s)",
                        *(request.method, request.path, delay, budget, self.server),
                    )
                yield delay

    def _build(self, request: PolarRequest) -> httpx.Request:
        """The httpx request; counts it as sent."""
        with self._counting:
            self.requests_sent += 1
        url = self._base.copy_with(raw_path=self._base.raw_path.rstrip(b"/") + request.target)
        headers = self._headers.raw
        if request.content is not None:
            headers.append((b"Content-Type", b"application/json"))
        return httpx.Request(request.method, url, headers=headers, content=request.content, extensions=self._extensions)

    def _failure(self, request: PolarRequest, error: Exception) -> PolarApiError:
        """The error for a request that no complete response came to, or one that cannot be used."""
        if isinstance(error, bodies.UnusableBody):
            return response_error(request, error.status, str(error), self.server)
        return transport_error(request, error, self.server, self.deadline)

    def _decoded(
        self, request: PolarRequest, response: httpx.Response, content: bytes, decode: Callable[[bytes], T]
    ) -> T:
        """The decoded response, or the error that it means; tells the pacer of a 429."""
        status = response.status_code
        hidden = content if 200 <= status < 300 else content.replace(self.server.token.encode(), b"(the access token)")
        error = error_of(request, status, response.headers, hidden, self.server)
        if isinstance(error, PolarRateLimitError):
            self.pacer.throttled(error.retry_after)
        else:
            self.pacer.succeeded()
        if error is not None:
            raise error
        try:
            content.decode()
            return decode(content)
        except (ValueError, OverflowError, RecursionError):
            # Not chained: the decoder's error quotes the body, which may hold personal data.
            reason = bodies.what_is_wrong_with(content)
            unusable = bodies.UnusableBody(reason, status) if reason else bodies.BodyError()
            raise self._failure(request, unusable) from None
