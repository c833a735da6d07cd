"""Loads that are killed at any moment, while a reader looks: LOAD_KILLS of each database, 500 of them a long test."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from tests.integration.databases import Target, target
from tests.integration.postgres import postgres
from tests.unit.engine.loading.exports import events_of, exported, hour

__all__ = ["postgres", "target"]

KILLS = int(os.environ.get("LOAD_KILLS", "8"))
WINDOWS = 4
ROWS = 300


@pytest.fixture(scope="module")
def processes() -> Any:
    """Makes processes that need not import anything any more."""
    pytest.importorskip("duckdb", reason="DuckDB is not installed: no load is killed")
    pytest.importorskip("psycopg", reason="psycopg is not installed: no load is killed")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.integration.load_worker"])
    return made


class Reader:
    """Reads the table all the time, and notes each window that is neither as it was nor as it is to be.

    :param states: of each window all that a reader may see.
    """

    def __init__(self, target: Target, states: list[set[frozenset[str]]]) -> None:
        self._target, self._states = target, states
        self._stop = threading.Event()
        self.looks = 0
        self.partial: list[Counter[int]] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.look()
                time.sleep(0.02 if self._target.kind == "duckdb" else 0.0005)  # in DuckDB nobody can write meanwhile
        except BaseException as error:  # is raised in the test
            self.failure = error

    def look(self) -> None:
        try:
            rows = self._target.query('SELECT "id", "external_customer_id" FROM events')
        except Exception as error:
            # Not there yet; or a file that another process has open for writing, which DuckDB lets nobody read.
            if not any(text in str(error) for text in ("no such table", "does not exist", "lock", "Lock")):
                raise
            return
        self.looks += 1
        seen: dict[int, set[str]] = {number: set() for number in range(WINDOWS)}
        for id_, window in rows:
            seen[int(window)].add(id_)
        sizes = Counter({number: len(ids) for number, ids in seen.items()})
        if len(rows) != sizes.total() or any(seen[number] not in self._states[number] for number in seen):
            self.partial.append(sizes)


def versions(folder: Path) -> tuple[list[list[ExportedWindow]], list[set[frozenset[str]]]]:
    """Three exports of each window, each with some events gone and some come; and what a reader may see of it."""
    exports: list[list[ExportedWindow]] = []
    states: list[set[frozenset[str]]] = [set() for _ in range(WINDOWS)]
    for version in range(3):
        exports.append([])
        for number in range(WINDOWS):
            events = events_of(hour(number), ROWS, external_customer_id=str(number))[version * 50 : version * 50 + 200]
            exports[-1].append(exported(folder / str(version), events, hour(number)))
            states[number].add(frozenset(event["id"] for event in events))
    return exports, states


def place_of(target: Target) -> str:
    found = target.airflow
    if target.kind != "postgres":
        return str(found["host"])
    return f"host={found['host']} port={found['port']} user={found['login']} dbname={found['schema']}"


@pytest.fixture
def killed(processes: Any, target: Target) -> Iterator[Any]:
    """Starts a load in a process of its own, and kills it after some seconds unless it has ended; whether it has."""
    started: list[Any] = []

    def run(exports: list[ExportedWindow], after: float | None) -> bool:
        from tests.integration.load_worker import load

        folder = exports[0].directory.url.removeprefix("file://")
        names = [window.name for window in exports]
        process = processes.Process(target=load, args=(target.kind, place_of(target), folder, names))
        started.append(process)
        process.start()
        process.join(after if after is not None else 120)
        ended = process.exitcode is not None
        process.kill()
        process.join()
        assert not ended or process.exitcode == 0
        return ended

    yield run
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize("target", ["sqlite", "duckdb", "postgres"], indirect=True)
def test_a_reader_never_sees_a_part_of_a_window(target: Target, killed: Any, tmp_path: Path) -> None:
    exports, states = versions(tmp_path)
    chance = random.Random(14)
    killed(exports[0], None)  # also begins what the others are forked from
    started = time.monotonic()
    assert killed(exports[1], None)
    whole = time.monotonic() - started
    kills = 0
    with Reader(target, states) as reader:
        while kills < KILLS:
            kills += not killed(exports[chance.randrange(3)], chance.uniform(0, whole))
            reader.look()  # of what this one has left, whether the other looks came to it or not
    assert reader.partial == []
    assert reader.looks > KILLS
    ((loads,),) = target.query("SELECT count(*) FROM polar_loads")
    print(f"{kills} kills, {reader.looks} looks, {loads} loads of a window")
    # What the killed ones have left is in no load's way.
    assert killed(exports[2], None)
    due = {window: frozenset(event["id"] for event in exports[2][window].events()) for window in range(WINDOWS)}
    assert frozenset(target.ids()) == frozenset().union(*due.values())
    assert len(target.ids()) == sum(map(len, due.values()))
