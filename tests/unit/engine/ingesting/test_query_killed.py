"""Ingests that are killed at random points while the rows of their query change between the attempts.

``QUERY_KILLS=200`` kills as often; by default it is a few times.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.testing import LocalPolar

KILLS = int(os.environ.get("QUERY_KILLS", "6"))
ROWS = 200


@pytest.fixture
def worker(polar_server: LocalPolar) -> Iterator[subprocess.Popen[str]]:
    file = Path(__file__).with_name("ingest_query_worker.py")
    command = [sys.executable, str(file), polar_server.base_url, polar_server.token]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        process.wait()


def change(database: Path, chance: random.Random) -> None:
    """Rows come, go and change."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS usage (id INTEGER PRIMARY KEY, customer TEXT, amount REAL)")
        connection.execute("DELETE FROM usage WHERE id % 7 = ?", (chance.randrange(7),))
        connection.execute("UPDATE usage SET amount = amount + 1 WHERE id % 5 = ?", (chance.randrange(5),))
        rows = [(chance.randrange(10**9), f"c{n % 9}", n / 4) for n in range(ROWS)]
        connection.executemany("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", rows)


def run(worker: subprocess.Popen[str], line: str, kill_after: float) -> int:
    """Its exit code, after it was killed where it took longer."""
    assert worker.stdin
    assert worker.stdout
    print(line, file=worker.stdin, flush=True)
    pid = int(worker.stdout.readline())
    timer = threading.Timer(kill_after, lambda: os.kill(pid, signal.SIGKILL))
    timer.start()
    code = int(worker.stdout.readline())
    timer.cancel()
    timer.join()
    print(file=worker.stdin, flush=True)
    return code


def frozen(directory: Path, pattern: str) -> tuple[bytes, list[dict[str, Any]]] | None:
    for path in directory.glob(pattern):
        content = path.read_bytes()
        lines = [json.loads(line) for line in gzip.decompress(content).splitlines()]
        return content, [line["event"] for line in lines[1:]]
    return None


def content(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["external_id"], event["external_customer_id"], event["metadata"]["id"], event["metadata"]["amount"]


@pytest.mark.parametrize("key", ["-", "id"])
def test_what_is_stored_is_the_first_snapshot(
    polar_server: LocalPolar, tmp_path: Path, worker: subprocess.Popen[str], key: str
) -> None:
    chance = random.Random(f"{key} {KILLS}")
    polar_server.fail("delay", path="ingest", delay=0.01, every=1)
    polar_server.fail("lost_response", path="ingest", every=7)
    killed = story = 0
    longest = 0.3
    due: Counter[Any] = Counter()
    after_freezing = 0
    while killed < KILLS // 2:
        story += 1
        database, directory = tmp_path / f"{story}.sqlite", tmp_path / f"frozen-{story}"
        first = None
        while True:
            change(database, chance)
            code = run(worker, f"{database} {directory} run-{story} {key}", chance.uniform(0, longest))
            first = first or frozen(directory, "frozen-*.gz")
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed += 1
            after_freezing += first is not None
            longest *= 1.1
        kept = frozen(directory, "kept-*.gz")
        assert kept is not None
        assert first is None or kept == first
        due += Counter(map(content, kept[1]))
        longest = max(longest / 2, 0.2)
    assert after_freezing
    assert Counter(map(content, polar_server.events())) == due
    assert max(due.values()) == 1
