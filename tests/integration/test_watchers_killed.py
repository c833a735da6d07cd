"""Watchers in a real triggerer that is stalled, killed and told other things to watch for: no event is lost.

Two rounds of each; ``WATCHER_ROUNDS=20`` (``make watchers``) makes more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_polar.testing import LocalPolar
from tests.integration.triggerers import add, delivered, last_cursor, lists, triggerer, until, watch

ROUNDS = int(os.environ.get("WATCHER_ROUNDS", "2"))

pytestmark = pytest.mark.skipif(
    not hasattr(BaseEventTrigger, "shared_stream_key"), reason="cursors are stored from Airflow 3.3 on"
)


class Rounds:
    """What has to be delivered to an asset, over several triggerers."""

    def __init__(self, polar: LocalPolar, asset: str, log: Path) -> None:
        self.polar, self.asset, self.log = polar, asset, log
        self.due: list[str] = []

    def add(self, *args: Any, **more: Any) -> None:
        self.due += add(self.polar, *args, **more)

    def polls(self, more: int = 2, seconds: float = 300) -> None:
        """Until so many more polls have been made."""
        there = lists(self.polar)
        try:
            until(lambda: lists(self.polar) >= there + more, seconds, "no polls")
        except AssertionError:
            print(self.log.read_text()[-20_000:])
            raise

    def lost(self) -> set[str]:
        return set(self.due) - delivered(self.asset).keys()

    def finish(self, capsys: Any, what: str) -> None:
        """Lets a last triggerer deliver what is due, and says how it went."""
        with triggerer(self.polar, self.log):
            try:
                until(lambda: not self.lost(), 300, "events are missing")
            except AssertionError:
                print(self.log.read_text()[-20_000:])
                raise AssertionError(f"lost: {len(self.lost())} of {len(self.due)}") from None
        told = delivered(self.asset)
        with capsys.disabled():
            again = told.total() - len(told)
            print(f"\n{what}: {len(self.due)} events, 0 lost, {again} delivered again")
        assert told.keys() == set(self.due)


def test_a_stalled_supervisor_loses_nothing(polar_server, airflow_db, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    """What the trigger yields and stores waits for the supervisor, which is killed as soon as a cursor has moved."""
    watch("on_stalled", stalled=[{"event_name": "order.paid"}])
    rounds = Rounds(polar_server, "stalled", tmp_path / "triggerer.log")
    chance = random.Random(7)
    for number in range(ROUNDS):
        with triggerer(polar_server, rounds.log) as supervisor:
            rounds.polls()
            if number % 2:
                # A poll finds the event, and the supervisor stalls before it can be told.
                rounds.add()
                rounds.polls(1)
            os.kill(supervisor, signal.SIGSTOP)
            rounds.add()
            # Time for a cursor to be sent after the event, if anything sends it unasked.
            time.sleep(7 if number < 2 else chance.uniform(0, 9))
            there, end = last_cursor(airflow_db), time.monotonic() + chance.uniform(1, 4)
            os.kill(supervisor, signal.SIGCONT)
            while last_cursor(airflow_db) == there and time.monotonic() < end:
                pass
            os.kill(supervisor, signal.SIGKILL)
    rounds.finish(capsys, f"{ROUNDS} rounds of a stalled supervisor")


def test_random_kills_lose_nothing(polar_server, airflow_db, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    watch("on_killed", killed=[{"event_name": ["order.paid", "order.made"]}, {"event_name": "order.refunded"}])
    rounds = Rounds(polar_server, "killed", tmp_path / "triggerer.log")
    chance = random.Random(11)
    for _ in range(ROUNDS):
        with triggerer(polar_server, rounds.log):
            rounds.polls()
            end = time.monotonic() + chance.uniform(0, 4)
            while time.monotonic() < end:
                name = chance.choice(["order.paid", "order.made", "order.refunded"])
                rounds.add(chance.choice([1, 3, 150]), name, age=chance.choice([0, 0, 5, 300]))
                time.sleep(chance.uniform(0, 1))
        rounds.add(5)
    rounds.finish(capsys, f"{ROUNDS} random kills")


CHANGES: list[list[dict[str, Any]]] = [
    [{"event_name": ["order.paid", "order.made"]}],
    [{"event_name": ["order.made", "order.paid"], "poll_interval": 0.6}],
    [{"event_name": ["order.paid", "order.made"], "filters": {"external_customer_id": "c"}}],
    [{"event_name": ["order.paid", "order.made", "order.refunded"], "filters": {"external_customer_id": ["c", "d"]}}],
    [{"event_name": "order.paid"}, {"event_name": ["order.made", "order.refunded"], "overlap": 1_800}],
]


def test_changed_arguments_lose_nothing(polar_server, airflow_db, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    rounds = Rounds(polar_server, "changed", tmp_path / "triggerer.log")
    for number in range(max(ROUNDS, len(CHANGES))):
        watch("on_changed", changed=CHANGES[number % len(CHANGES)])
        with triggerer(polar_server, rounds.log):
            rounds.polls()
            for name in ("order.paid", "order.made"):
                rounds.add(3, name)
            rounds.polls()
        for name in ("order.paid", "order.made"):
            rounds.add(2, name)
    rounds.finish(capsys, f"{max(ROUNDS, len(CHANGES))} changes of arguments")


def test_arguments_changed_under_a_running_triggerer_lose_nothing(polar_server, airflow_db, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Airflow drops an event of a watcher that it has just forgotten, and says that it has stored it."""
    watch("on_changing", changing=CHANGES[-1])
    rounds = Rounds(polar_server, "changing", tmp_path / "triggerer.log")
    with triggerer(polar_server, rounds.log), ThreadPoolExecutor() as threads:
        rounds.polls()
        for number in range(2 * ROUNDS):
            changing = threads.submit(watch, "on_changing", changing=CHANGES[number % len(CHANGES)])
            end = time.monotonic() + 4
            while time.monotonic() < end or not changing.done():
                rounds.add(1, ("order.paid", "order.made")[len(rounds.due) % 2])
                time.sleep(0.1)
            changing.result()
    rounds.finish(capsys, f"{2 * ROUNDS} changes under a running triggerer")
