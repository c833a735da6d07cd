"""The body of a response, taken in within limits of time and size, and why one cannot be used. No I/O."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Decoded bytes of a response at most. A page of 100 events with 50 values of 500 characters each has 3 to 15 MB."""
DEADLINE_FACTOR = 4.0
"""A response as a whole may take this many times the client's timeout, from sending its request to its last byte."""
ACCEPTED = "gzip"
"""The only content coding: it can be decoded in bounded steps, however little there is of it."""
_STEP = 1024 * 1024


class BodyError(Exception):
    """The body breaks off or is garbled."""


class UnusableBody(BodyError):
    """The body cannot be used, and would be the same the next time; the message says why.

    :param status: HTTP status of its response.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Body:
    """Collects a body: ``add`` what arrives, then take :meth:`content`.

    :param response: a response whose body is still to come.
    :param deadline: in the clock's seconds.
    """

    def __init__(
        self, response: httpx.Response, deadline: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        self._status = response.status_code
        if coding not in (ACCEPTED, "identity"):
            raise UnusableBody(f"its content coding is not {ACCEPTED}, the one that was accepted", self._status)
        self._gzip = zlib.decompressobj(wbits=31) if coding == ACCEPTED else None
        self._deadline = deadline
        self._clock = clock
        self._decoded: list[bytes] = []
        self._size = 0
        self._empty = True

    def add(self, raw: bytes) -> None:
        """Takes in what has arrived, and decodes it.

        :raises TimeoutError: the deadline has passed.
        :raises UnusableBody: the body is larger than :data:`MAX_RESPONSE_BYTES`.
        :raises BodyError: it is not the gzip that it is said to be.
        """
        if self._clock() > self._deadline:
            raise TimeoutError
        self._empty = self._empty and not raw
        if self._gzip is None:
            self._keep(raw)
            return
        while raw:
            try:
                self._keep(self._gzip.decompress(raw, _STEP))
            except zlib.error:
                raise BodyError from None
            raw = self._gzip.unconsumed_tail

    def content(self) -> bytes:
        """The whole body.

        :raises BodyError: the gzip has no end.
        """
        if self._gzip is not None and not self._empty:
            while not self._gzip.eof and (more := self._gzip.decompress(b"", _STEP)):
                self._keep(more)
            if not self._gzip.eof:
                raise BodyError
        return b"".join(self._decoded)

    def _keep(self, decoded: bytes) -> None:
        self._size += len(decoded)
        if self._size > MAX_RESPONSE_BYTES:
            raise UnusableBody(f"its body is larger than {MAX_RESPONSE_BYTES // 1024**2} MiB", self._status)
        self._decoded.append(decoded)


def decode_json(body: bytes) -> Any:
    """The JSON value of a body.

    :raises ValueError: it is none; NaN and the infinities, which Python would take, are none either.
    """
    return json.loads(body, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def what_is_wrong_with(body: bytes) -> str | None:
    """Why a body that could not be decoded will be no better the next time; None where it is merely garbled."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        cut_short = error.end == len(body) and error.reason == "unexpected end of data"
        return None if cut_short else "its body holds bytes that are not UTF-8"
    constants: list[str] = []
    try:
        json.loads(text, parse_constant=constants.append)
    except ValueError:
        return None
    except RecursionError:
        return "its body is nested too deeply"
    if constants:
        return f"its body holds {constants[0]}, which is not JSON"
    return "its body is JSON of another form than expected"
