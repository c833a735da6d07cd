"""What an ingest costs this process: ``python -m benchmarks.ingest_cost [--events N] [--on-invalid skip]``.

The server is a process of its own that stores nothing and responds at once with the right counts. Printed are events a
second, and events a second of processor time, from rows of a JSONL file to the summary; the best of three rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.sources import rows_of_files

START = datetime(2026, 1, 1, tzinfo=UTC)


async def _respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()
            return
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        counts = json.dumps({"inserted": body.count(b'"external_id":'), "duplicates": 0}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(counts) + counts
        )


def _serve(port: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_respond, "127.0.0.1", 0, limit=1 << 24)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def _write(path: Path, events: int) -> None:
    with path.open("w") as file:
        for number in range(events):
            event = {
                "name": "flight.departed",
                "external_customer_id": f"c{number % 17}",
                "timestamp": (START + timedelta(seconds=number)).isoformat(),
                "metadata": {"flight": number, "origin": "JFK", "dest": "LAX", "dep_delay": number / 4},
            }
            file.write(json.dumps(event) + "\n")


def main() -> None:
    """Prints the figures of each round and the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--on-invalid", choices=["fail", "skip"], default="fail")
    given = parser.parse_args()
    port: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(port,), daemon=True)
    server.start()
    best = (0.0, 0.0)
    with (
        tempfile.TemporaryDirectory() as folder,
        PolarClient("polar_oat_benchmark", base_url=f"http://127.0.0.1:{port.get()}") as client,
    ):
        file = Path(folder) / "usage.jsonl"
        _write(file, given.events)
        for _ in range(3):
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            options = IngestOptions("benchmark", on_invalid=given.on_invalid)
            summary = Ingest(lambda: client, options).run(rows_of_files([file]))
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            assert summary.inserted == given.events
            best = max(best, (given.events / cpu, given.events / seconds))
            print(f"{seconds:.2f} s, {cpu:.2f} s of them on the processor")
    print(f"{best[1]:,.0f} events a second; {best[0]:,.0f} a second of processor time")
    server.terminate()


if __name__ == "__main__":
    main()
