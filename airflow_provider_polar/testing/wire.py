"""What goes over the wire: a request as it came, and a response sent whole or, as a fault orders it, not."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polar.testing.faults import Fault, FaultKind, RequestRecord
from airflow_provider_polar.testing.ingest import MAX_BODY

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PRIVATE = ("cache-control", "private, no-store")
BOMB = 100_000_000
"""Bytes that a gzip bomb unpacks to."""


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


def json_response(status: int, content: Any) -> Response:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=_jsonable).encode()
    return Response(status, body, [("content-type", "application/json"), PRIVATE])


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else {}


def plain_response(status: int, text: str) -> Response:
    return Response(status, text.encode(), [("content-type", "text/plain; charset=utf-8")])


async def read(receive: Receive) -> bytes | None:
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


async def respond(request: Request, response: Response, receive: Receive, send: Send) -> None:
    """Send a response, or fail to as a fault orders it."""
    match request.fault:
        case Fault("lost_response"):
            await cut(request.scope, receive)
            return
        case Fault("truncated"):
            await send_response(send, response, part=0.5)
            await cut(request.scope, receive)
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
    await send_response(send, response)


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


async def send_response(send: Send, response: Response, part: float = 1.0) -> None:
    """Send a response, or the first part of it under the Content-Length of the whole."""
    headers = [(key.encode(), value.encode("latin-1")) for key, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = response.body[: int(len(response.body) * part)]
    await send({"type": "http.response.body", "body": body, "more_body": part < 1})


async def cut(scope: Scope, receive: Receive, abruptly: bool = False) -> None:
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
