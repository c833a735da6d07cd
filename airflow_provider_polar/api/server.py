"""A server of Polar's API, and how a client reaches it. Nothing heavy is imported."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_provider_polar.api.pacing import AT_ONCE
from airflow_provider_polar.environments import DEFAULT_API_VERSION, DEFAULT_BASE_URL, DEFAULT_TIMEOUT
from airflow_provider_polar.exceptions import PolarConfigurationError


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and how a client reaches it. As text it is what messages name: neither token nor user nor query.

    :param token: organization access token; never shown.
    :param base_url: Polar's base URL.
    :param api_version: the ``Polar-Version`` header.
    :param timeout: seconds to wait for a connection, and for a response to begin or go on; a response as a whole may
        take four times as long.
    :param requests_per_minute: the budget, spent evenly, never more in any 60 seconds; shared within the process by
        all clients with the same server, token and budget; None for no pacing.
    :param connection: name of the connection that the token comes from, for messages.
    :param allow_http: permit ``http://`` to another machine, which shows the token to everybody on the way.
    :param at_once: share of the budget that may go at once, before the rest goes evenly.
    """

    token: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    api_version: str = DEFAULT_API_VERSION
    timeout: float = DEFAULT_TIMEOUT
    requests_per_minute: float | None = None
    connection: str | None = None
    allow_http: bool = False
    at_once: float = AT_ONCE

    def __str__(self) -> str:
        return f"{self.base_url}, connection {self.connection}" if self.connection else self.base_url

    @property
    def account(self) -> str:
        """Tells one server and token from another, and reveals neither."""
        return hashlib.sha256(f"{self.base_url}\0{self.token}".encode()).hexdigest()[:16]

    def check(self) -> None:
        """Refuses what cannot be meant, or could show the token.

        :raises PolarConfigurationError: naming the connection. A retry does not help.
        """
        for mistake in self._mistakes():
            raise PolarConfigurationError(mistake + (f" (connection {self.connection})" if self.connection else ""))

    def _mistakes(self) -> Iterator[str]:
        import httpx

        # Checked here because httpx would quote an unsendable header, and so the token, in its own error.
        if not re.fullmatch(r"[\x21-\x7e]+", self.token):
            yield (
                "The access token is empty or holds spaces or other characters that no token has: set an organization "
                "access token as the connection's password"
            )
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if not url.host or not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", self.base_url):
            yield (
                f"{self.base_url.split('@')[-1]!r} is not a base URL; it looks like {DEFAULT_BASE_URL}, without user, "
                "query or fragment"
            )
        if url.scheme == "http" and not self.allow_http and not is_local(url.host):
            yield (
                f"{self.base_url} would send the access token unencrypted to another machine: use https://, or allow "
                "it with allow_http where the network is trusted"
            )
        if not re.fullmatch(r"[0-9A-Za-z.-]{1,20}", self.api_version):
            # Not quoted: it may be an access token in the wrong field.
            yield f"The API version is not one; it looks like {DEFAULT_API_VERSION}"
        for name, number in (("timeout", self.timeout), ("requests_per_minute", self.requests_per_minute)):
            if number is not None and not 0 < number < math.inf:
                yield f"{name} is {number}; it is a positive number"


def is_local(host: str) -> bool:
    """The machine itself: a name that merely looks so may lead anywhere."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
