"""What the benchmarks of this process's costs share: a server that responds at once, and the best of three rounds."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Respond = Callable[[bytes, bytes], bytes]
"""The JSON that a request's head and body are answered with."""


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """A server in a process of its own; its base URL."""
    port: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(port, respond), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{port.get()}"
    finally:
        server.terminate()


def _serve(port: Any, respond: Respond) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()
                return
            length = re.search(rb"(?i)content-length: (\d+)", head)
            content = respond(head, await reader.readexactly(int(length[1]) if length else 0))
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
                + content
            )

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def print_rounds(events: int, work: Callable[[], str]) -> None:
    """Does the work on so many events three times, and prints the figures of each round, what it says, and the best."""
    best = (0.0, 0.0)
    for _ in range(3):
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        told = work()
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = max(best, (events / cpu, events / seconds))
        print(f"{seconds:.2f} s, {cpu:.2f} s of them on the processor, {told}")
    print(f"{best[1]:,.0f} events a second; {best[0]:,.0f} a second of processor time")
