"""What both clients decide alike: headers, pacing, retries, and what a response means. No I/O."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from airflow_provider_polar.api import bodies
from airflow_provider_polar.api.errors import Server, error_of, response_error, transport_error
from airflow_provider_polar.api.pacing import AT_ONCE, Pacer, shared_pacer
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.environments import DEFAULT_API_VERSION, DEFAULT_BASE_URL
from airflow_provider_polar.exceptions import (
    PolarApiError,
    PolarConfigurationError,
    PolarRateLimitError,
)

T = TypeVar("T")
log = logging.getLogger(__name__)


class Wire:
    """How one client speaks with one server.

    :raises PolarConfigurationError: for a missing or unsendable token, a wrong base URL, version, timeout or budget,
        and for ``http://`` to another machine unless it is allowed.
    """

    def __init__(
        self,
        token: str,
        base_url: str,
        api_version: str,
        timeout: float,
        retries: Retries,
        requests_per_minute: float | None,
        *,
        connection: str | None = None,
        allow_http: bool = False,
        at_once: float = AT_ONCE,
    ) -> None:
        named = f" (connection {connection})" if connection else ""
        # Checked here because httpx would quote an unsendable header, and so the token, in its own error.
        if not token or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise PolarConfigurationError(
                f"The access token is empty or holds spaces or other characters that no token has{named}: "
                "set an organization access token as the connection's password"
            )
        if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", base_url):
            raise PolarConfigurationError(
                f"{base_url.split('@')[-1]!r} is not a base URL{named}; it looks like {DEFAULT_BASE_URL}, "
                "without user, query or fragment"
            )
        try:
            self._url = httpx.URL(base_url.rstrip("/"))
        except httpx.InvalidURL:
            raise PolarConfigurationError(
                f"{base_url!r} is not a URL{named}; it looks like {DEFAULT_BASE_URL}"
            ) from None
        if self._url.scheme == "http" and not allow_http and not is_local(self._url.host):
            raise PolarConfigurationError(
                f"{base_url} would send the access token unencrypted to another machine{named}: use https://, or allow "
                "it with allow_http where the network is trusted"
            )
        if not re.fullmatch(r"[0-9A-Za-z.-]{1,20}", api_version):
            # Not quoted: it may be an access token in the wrong field.
            raise PolarConfigurationError(f"The API version is not one{named}; it looks like {DEFAULT_API_VERSION}")
        if not 0 < timeout < math.inf:
            raise PolarConfigurationError(f"timeout is {timeout}{named}; it is a positive number of seconds")
        if requests_per_minute is not None and not 0 < requests_per_minute < math.inf:
            raise PolarConfigurationError(
                f"requests_per_minute is {requests_per_minute}{named}; it is a positive number"
            )
        self._token = token.encode()
        self.base_url = base_url.rstrip("/")
        self.api_version = api_version
        self.server = Server(self.base_url, connection, api_version)
        self.timeout = timeout
        self.deadline = timeout * bodies.DEADLINE_FACTOR
        """Seconds that a response may take as a whole."""
        self.retries = retries
        self.account = hashlib.sha256(f"{self.base_url}\0{token}".encode()).hexdigest()[:16]
        """Tells one server and token from another, and reveals neither."""
        self.pacer: Pacer = shared_pacer(self.account, requests_per_minute, at_once)
        self._headers = httpx.Headers(self._header_fields(token)).raw
        self._urls: dict[str, httpx.URL] = {}
        self._counting = threading.Lock()
        self.requests_sent = 0
        self.retries_made = 0
        self.seconds_waited = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def _header_fields(self, token: str) -> dict[str, str]:
        from airflow_provider_polar import __version__

        return {
            "Host": self._url.netloc.decode("ascii"),
            "Authorization": f"Bearer {token}",
            "Polar-Version": self.api_version,
            "Accept": "application/json",
            "Accept-Encoding": bodies.ACCEPTED,
            "User-Agent": f"airflow-provider-polar/{__version__}",
        }

    def open(self, client: Callable[..., T], **options: Any) -> T:
        """Makes the httpx client. Redirects are errors: they would be a wrong path.

        :raises PolarConfigurationError: a proxy or a file of certificates that the environment names is unusable.
        """
        try:
            return client(timeout=self.timeout, follow_redirects=False, **options)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            # Not quoted: a proxy's URL may hold a password.
            hint = "; a SOCKS proxy needs `pip install httpx[socks]`" if isinstance(error, ImportError) else ""
            raise PolarConfigurationError(
                "The proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE, SSL_CERT_DIR) that "
                f"the environment names cannot be used for {self.server}: {type(error).__name__}{hint}"
            ) from None

    def attempts(
        self,
        request: PolarRequest,
        retries: Retries | None,
        on_retry: Callable[[PolarApiError], None] | None = None,
    ) -> Attempts:
        """The attempts at one request.

        :param on_retry: called with the error of every attempt that is followed by another one.
        """

        def tell(error: PolarApiError, pause: float, number: int) -> None:
            with self._counting:
                self.retries_made += 1
                self.seconds_waited += pause
            if on_retry is not None:
                on_retry(error)
            log.warning("%s (%s): waiting %.1f s, retry %d", error.brief, self.server, pause, number)

        return Attempts(retries or self.retries, request, tell)

    def pauses(self, request: PolarRequest) -> Iterator[float]:
        """The pauses in seconds to make, one after the other, until the budget has room for the request.

        One line in the log tells of each stretch of long ones.
        """
        moment = self.pacer.reserve()
        while (delay := self.pacer.delay(moment)) != 0:
            if delay is None:
                moment = self.pacer.reserve()
            else:
                self._tell_of_pacing(request, delay)
                yield delay

    def _tell_of_pacing(self, request: PolarRequest, delay: float) -> None:
        if self.pacer.is_new_long_wait(delay):
            log.info(
                "%s %s waits %.0f s for the request budget of %s requests a minute or after a rate limit, and others "
                "may do so, too (%s)",
                request.method,
                request.path,
                delay,
                f"{self.pacer.requests_per_minute:g}" if self.pacer.requests_per_minute else "unlimited",
                self.server,
            )

    def build(self, http: httpx.Client | httpx.AsyncClient, request: PolarRequest) -> httpx.Request:
        """The httpx request; counts it as sent."""
        with self._counting:
            self.requests_sent += 1
        url = self._urls.get(request.path)
        if url is None:
            # The path of a single event is not kept: there may be many.
            url = httpx.URL(self.base_url + request.path)
            if request.path.endswith(("/", "names", "ingest")):
                self._urls[request.path] = url
        if request.params:
            url = url.copy_with(query=request.query)
        headers = self._headers
        if request.content is not None:
            headers = [*headers, (b"Content-Type", b"application/json")]
        extensions = {"timeout": http.timeout.as_dict()}
        return httpx.Request(request.method, url, headers=headers, content=request.content, extensions=extensions)

    def failure(self, request: PolarRequest, error: Exception) -> PolarApiError:
        """The error for a request that no complete response came to, or one that cannot be used."""
        if isinstance(error, bodies.UnusableBody):
            return response_error(request, error.status, str(error), self.server)
        return transport_error(request, error, self.server, timeout=self.timeout, deadline=self.deadline)

    def decoded(
        self, request: PolarRequest, response: httpx.Response, content: bytes, decode: Callable[[bytes], T]
    ) -> T:
        """The decoded response, or the error that it means; tells the pacer of a 429."""
        status = response.status_code
        hidden = content if 200 <= status < 300 else content.replace(self._token, b"(the access token)")
        error = error_of(request, status, response.headers, hidden, self.server)
        if isinstance(error, PolarRateLimitError):
            self.pacer.throttled(error.retry_after)
        else:
            self.pacer.succeeded()
        if error is not None:
            raise error
        try:
            if not content.isascii():
                content.decode()
            return decode(content)
        except (ValueError, OverflowError, RecursionError):
            # Not chained: the decoder's error quotes the body, which may hold personal data.
            reason = bodies.what_is_wrong_with(content)
            unusable = bodies.UnusableBody(reason, status) if reason else bodies.BrokenBody()
            raise self.failure(request, unusable) from None


def is_local(host: str) -> bool:
    """The machine itself: a name that merely looks so may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in ipaddress.ip_network("127.0.0.0/8") or address == ipaddress.IPv6Address("::1")
