"""What an export costs this process: ``python -m benchmarks.export_cost [--events N] [--format jsonl]``.

The server is a process of its own that responds at once from memory. Printed are events a second, and events a second
of processor time, from the first request to the published manifest; the best of three rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 100


def _event(number: int) -> bytes:
    event = {
        "id": str(uuid.UUID(int=number)),
        "timestamp": (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        "organization_id": str(uuid.UUID(int=1)),
        "customer_id": None,
        "customer": None,
        "external_customer_id": f"c{number % 17}",
        "member_id": None,
        "external_member_id": None,
        "child_count": 0,
        "parent_id": None,
        "label": "flight.departed",
        "name": "flight.departed",
        "source": "user",
        "metadata": {"flight": number, "origin": "JFK", "dest": "LAX", "dep_delay": number / 4},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _serve(port: Any, number: int) -> None:
    events = [_event(n) for n in range(number)]

    def after(text: str) -> int:
        """The number of the first event at or after a bound in whole milliseconds."""
        milliseconds = (datetime.fromisoformat(text) - START) // timedelta(milliseconds=1)
        return min(max(-(-milliseconds // 1000), 0), number)

    def page(query: str) -> bytes:
        given = {name: values[0] for name, values in parse_qs(query).items()}
        start = datetime.fromisoformat(given["start_timestamp"]) + timedelta(milliseconds=1)
        first, last = after(start.isoformat()), after(given["end_timestamp"])
        rows = b",".join(events[first : min(last, first + int(given.get("limit", "10")))])
        total = max(0, last - first)
        ending = json.dumps({"total_count": total, "max_page": -(-total // PAGE)}).encode()
        return b'{"items":[' + rows + b'],"pagination":' + ending + b"}"

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                writer.close()
                return
            found = re.match(rb"GET [^?]*\?(\S*)", head)
            body = page(found[1].decode() if found else "")
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )

    async def run() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def main() -> None:
    """Prints the figures of each round and the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
    given = parser.parse_args()
    port: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(port, given.events), daemon=True)
    server.start()
    connection = {"conn_type": "polar", "host": f"http://127.0.0.1:{port.get()}", "password": "polar_oat_benchmark"}
    os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps(connection)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    from airflow_provider_polar.operators.export import PolarExportEventsOperator

    best = (0.0, 0.0)
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            export = PolarExportEventsOperator(
                task_id="export",
                destination=f"file://{folder}",
                start=START.isoformat(),
                end=(START + timedelta(seconds=given.events)).isoformat(),
                file_format=given.format,
                requests_per_minute=10_000_000,
            )
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            result = export.execute({})
            seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert result["rows"] == given.events
        best = max(best, (given.events / cpu, given.events / seconds))
        print(f"{seconds:.2f} s, {cpu:.2f} s of them on the processor, {result['requests']:,} requests")
    print(f"{best[1]:,.0f} events a second; {best[0]:,.0f} a second of processor time")
    server.terminate()


if __name__ == "__main__":
    main()
