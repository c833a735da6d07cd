"""What waiting costs: hundreds of deferred waits and asset watchers on one connection, in one event loop.

    python -m benchmarks.waiting_load --waits 200 --watchers 50 --seconds 120

Runs the triggers as the triggerer does (watchers through Airflow's own shared streams, where it has them) against a
local Polar in a process of its own, and prints the requests a minute at the server, CPU and memory of this process, and
the longest time for which the event loop was held up, measured as Airflow's own warning measures it (from 0.2 s on).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil

TOKEN = "polar_oat_load"


@dataclass
class Load:
    """What was measured.

    :ivar requests_per_minute: list requests at the server, without the first quarter of the time.
    :ivar start_requests: list requests in that first quarter.
    :ivar cpu_percent: of one core.
    :ivar memory_mb: what the triggers added to the resident memory.
    :ivar held_up: seconds, the longest, as Airflow's warning measures it; other processes on the machine add to it.
    :ivar busy: seconds, the longest that the event loop's own thread computed between two turns.
    """

    waits: int
    watchers: int
    seconds: float
    requests_per_minute: float
    start_requests: int
    cpu_percent: float
    memory_mb: float
    held_up: float
    busy: float
    delivered: int
    ended: int


@contextmanager
def local_polar() -> Iterator[str]:
    """The base URL of a local Polar in another process."""
    command = [sys.executable, "-m", "airflow_provider_polar.testing", "--token", TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(" at ")[1].split(",")[0]
        finally:
            process.terminate()


async def measure(base_url: str, waits: int, watchers: int, seconds: float, interval: float, budget: float) -> Load:
    """Runs so many triggers for so long; in the end one event for each ends every wait and reaches every watcher."""
    from airflow.triggers.base import BaseEventTrigger

    from airflow_provider_polar.triggers.event import PolarEventTrigger
    from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

    extra = {"environment": "sandbox", "requests_per_minute": budget}
    connection = {"conn_type": "polar", "host": base_url, "password": TOKEN, "extra": extra}
    os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps(connection)
    ended: list[Any] = []
    delivered: list[Any] = []

    async def take(events: Any, into: list[Any]) -> None:
        async for event in events:
            into.append(event.payload)

    process = psutil.Process()
    held_up = busy = 0.0

    async def watchdog() -> None:
        nonlocal held_up, busy
        while True:
            before, computed = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.1)
            held_up = max(held_up, time.monotonic() - before)
            busy = max(busy, time.thread_time() - computed)

    memory = process.memory_info().rss
    tasks = [asyncio.create_task(watchdog())]
    start = datetime.now(UTC).isoformat()
    for number in range(waits):
        trigger = PolarEventTrigger(event_name=[f"wait.{number}"], start=start, poll_interval=interval)
        tasks.append(asyncio.create_task(take(trigger.run(), ended)))
    manager = None
    if hasattr(BaseEventTrigger, "shared_stream_key"):
        from airflow.triggers.shared_stream import SharedStreamManager

        manager = SharedStreamManager()
    for number in range(watchers):
        watcher = PolarEventWatchTrigger(event_name=f"watch.{number}", poll_interval=interval)
        if manager is None:
            tasks.append(asyncio.create_task(take(watcher.run(), delivered)))
            continue
        stream = manager.subscribe(trigger_id=number, trigger=watcher, key=watcher.shared_stream_key())
        tasks.append(asyncio.create_task(take(watcher.filter_shared_stream(stream), delivered)))

    async with httpx.AsyncClient(base_url=base_url, timeout=60) as control:

        async def requests() -> int:
            return int((await control.get("/_local/state")).json()["requests"])

        cpu, began = process.cpu_times(), time.monotonic()
        await asyncio.sleep(seconds / 4)
        first, since = await requests(), time.monotonic()
        await asyncio.sleep(seconds * 3 / 4)
        rate = (await requests() - first) / (time.monotonic() - since) * 60
        used = process.cpu_times()
        percent = (used.user + used.system - cpu.user - cpu.system) / (time.monotonic() - began) * 100
        grown = (process.memory_info().rss - memory) / 1e6
        names = [f"wait.{n}" for n in range(waits)] + [f"watch.{n}" for n in range(watchers)]
        events = [
            {"name": name, "external_customer_id": "c", "timestamp": datetime.now(UTC).isoformat()} for name in names
        ]
        await control.post("/_local/events", json={"events": events})
        until = time.monotonic() + interval * 1.2 + (waits + watchers) / budget * 60 + 5
        while time.monotonic() < until and (len(ended) < waits or len(delivered) < watchers):
            await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if manager is not None:
        await manager.stop_all()
    return Load(
        waits, watchers, seconds, round(rate, 1), first, round(percent, 1), round(grown, 1),
        round(held_up, 3), round(busy, 3), len(delivered), sum(event["status"] == "found" for event in ended),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--interval", type=float, default=60)
    parser.add_argument("--budget", type=float, default=300, help="requests a minute of the connection")
    given = parser.parse_args()
    with local_polar() as base_url:
        load = asyncio.run(measure(base_url, given.waits, given.watchers, given.seconds, given.interval, given.budget))
    for name, value in asdict(load).items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
