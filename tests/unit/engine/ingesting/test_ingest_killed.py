"""Workers that are killed while they send what they have read and still read more."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.testing import LocalPolar

ROWS = 3000


def rows() -> list[dict[str, Any]]:
    """Every seventh is repeated, every fiftieth invalid, every tenth has an id of its own, every twentieth a parent."""
    made = []
    for n in range(ROWS):
        row: dict[str, Any] = {"name": "call.made", "external_customer_id": "c", "metadata": {"n": n - n % 7 % 2}}
        if n % 50 == 49:
            row["metadata"] = {"n": None}
        elif n % 10 == 0:
            row |= {"external_id": f"mine-{n}", "metadata": {"n": n}}
        elif n % 20 == 1:
            row["parent_id"] = f"mine-{n - 1}"
        made.append(row)
    return made


def content(event: dict[str, Any]) -> tuple[Any, ...]:
    return (event["metadata"]["n"], "parent_id" in event and event["parent_id"] is not None)


Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(polar_server: LocalPolar, tmp_path: Path) -> Iterator[Start]:
    worker = Path(__file__).with_name("ingest_reading_worker.py")
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        command = [sys.executable, str(worker), polar_server.base_url, polar_server.token, str(tmp_path)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def requests(polar: LocalPolar) -> int:
    return sum(record.path == "/v1/events/ingest" for record in polar.requests)


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not is_so():
        assert process.poll() is None
        time.sleep(0.005)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_while_rows_are_read_and_sent(polar_server: LocalPolar, tmp_path: Path, start: Start) -> None:
    due, chance = rows(), random.Random(5)
    progress = tmp_path / "progress.json"
    valid = [row for row in due if row["metadata"]["n"] is not None]
    lines = [json.dumps(row).encode() + b"\n" for row in due]
    polar_server.fail("delay", path="ingest", delay=0.02, every=1)
    polar_server.fail("lost_response", path="ingest", every=5)
    stored: list[int] = []
    for _ in range(3):
        before, process = requests(polar_server), start()
        process.stdin.writelines(lines[: chance.randrange(300, ROWS)])  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        wanted = before + chance.randrange(1, 3)
        wait_until(lambda wanted=wanted: requests(polar_server) >= wanted, process)  # type: ignore[misc]
        kill(process)
        stored.append(polar_server.count())
        assert not progress.exists()
    assert 0 < stored[-1] < len(valid)

    process = start()  # and one that has read all
    process.stdin.writelines(lines)  # type: ignore[union-attr]
    process.stdin.close()  # type: ignore[union-attr]
    wait_until(progress.exists, process)
    kill(process)
    assert json.loads(progress.read_bytes())["batches"]

    process = start()
    output, _ = process.communicate(b"".join(lines), timeout=60)
    assert process.returncode == 0
    summary = json.loads(output)
    assert (summary["events"], summary["rejected"]) == (ROWS, ROWS // 50)
    assert summary["inserted"] + summary["duplicates"] == len(valid) == polar_server.count()
    assert Counter(map(content, polar_server.events())) == Counter(map(content, valid))
    rejected = [json.loads(line)["row"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert rejected == list(range(50, ROWS + 1, 50))
    assert not progress.exists()
