"""Where a run of the marathon of faults takes place: its organization, its faults and deaths, its attempts."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing import LocalPolar
from benchmarks import faults_engine as engine

START = datetime(2026, 10, 1, tzinfo=UTC)
WINDOW = {"start": START.isoformat(), "end": (START + timedelta(hours=1)).isoformat()}
ATTEMPTS = 6
_ADVICE = re.compile(r"retry|again|\bfix\b|\bset\b|check|clear|lower|upgrade|use |support", re.IGNORECASE)


@dataclass
class Run:
    """One run: what it was, what was done to it, and what was found."""

    kind: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    found: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Outcome:
    """How an attempt ended: green, killed, or with an error."""

    result: Any = None
    error: dict[str, Any] | None = None
    is_killed: bool = False

    @property
    def is_green(self) -> bool:
        return self.error is None and not self.is_killed

    def __str__(self) -> str:
        return (
            f"{self.error['kind']}: {self.error['message']}" if self.error else "killed" if self.is_killed else "green"
        )


class World:
    """A run's own organization at a local Polar, and a directory.

    :param with_sigkill: attempts are processes that die by SIGKILL.
    """

    def __init__(self, polar: LocalPolar, run: Run, folder: str, *, with_sigkill: bool) -> None:
        self.polar, self.run, self.folder, self.with_sigkill = polar, run, Path(folder), with_sigkill
        self.chance = random.Random(f"{run.kind} {run.seed}")
        self.organization = polar.add_organization()
        self.token = f"polar_oat_{uuid.uuid4().hex}"
        polar.add_token(self.token, organization_id=self.organization)
        polar.clear_faults()
        polar.clear_requests()
        self.memory = engine.Memory()
        # Nobody can see a wrong count that is by chance what an export, a look-back or an assembly expects.
        self.counts = [10**9]
        # Nor a row that is not given, while just as many arrive between a response's count and its page.
        self.arrivals = True

    def add(self, events: Sequence[dict[str, Any]], **how: Any) -> None:
        self.polar.add_events(events, organization_id=self.organization, **how)

    def stored(self) -> list[dict[str, Any]]:
        return self.polar.events(self.organization)

    def wrong(self, what: str, verdict: str = "wrong") -> None:
        self.run.found.setdefault(verdict, what[:400])

    def job(self, do: str, **parameters: Any) -> engine.Job:
        where = {"base_url": self.polar.base_url, "token": self.token, "folder": str(self.folder)}
        return {"do": do, "window": WINDOW, "on_incomplete": "fail", **where, **parameters}

    def attempt(self, job: engine.Job, *, is_calm: bool = False) -> Outcome:
        """One attempt, with deaths and a failing store unless it is calm; its error is read as a user reads it."""
        most = 40 if self.with_sigkill else 60
        death = self.chance.randint(1, most) if not is_calm and self.chance.random() < 0.5 else None
        failure = self.chance.randint(1, most) if not is_calm and self.chance.random() < 0.3 else None
        outcome = (self._in_process if self.with_sigkill and not is_calm else self._here)(job, death, failure)
        if outcome.error is not None:
            self._read_error(outcome.error, job)
        return outcome

    def _order_faults(self, do: str) -> None:
        """A few faults, each at a few requests."""
        chance = self.chance
        common: list[dict[str, Any]] = [
            {"kind": "status", "status": chance.choice([408, 500, 502, 503])},
            {"kind": "rate_limit", "retry_after": 0},
            *({"kind": name} for name in ("reset", "lost_response", "truncated", "broken")),
        ]
        pages: list[dict[str, Any]] = [
            {"kind": "short_page", "rows": chance.choice([1, 7, 100])},
            {"kind": "count", "total_count": chance.choice(self.counts)},
        ]
        if self.arrivals:
            pages.append({"kind": "arrival", "before": chance.choice(["page", "count"]), "events": events(chance, 3)})
        kinds = [*common, {"kind": "deadlock"}] if do == "ingest" else [*common, *pages]
        path: Any = "ingest" if do == "ingest" else "list"
        for fault in chance.sample(kinds, chance.randint(0, 3)):
            self.polar.fail(**fault, path=path, after=chance.randint(0, 8), times=chance.choice([1, 1, 2, 5]))

    def _here(self, job: engine.Job, death: int | None, failure: int | None) -> Outcome:
        strike = engine.Strikes(death, failure)
        try:
            return Outcome(engine.do(job, strike, self.memory))
        except engine.Killed:
            return Outcome(is_killed=True)
        except Exception as error:
            return Outcome(error=engine.told(error))
        finally:
            self.run.faults.update(strike.fired)

    def _in_process(self, job: engine.Job, death: int | None, failure: int | None) -> Outcome:
        given = json.dumps({**job, "death": death, "failure": failure})
        command = [sys.executable, "-m", "benchmarks.faults_engine"]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        self.run.faults["SIGKILL"] += done.returncode == -9
        if done.returncode:
            return Outcome(
                is_killed=done.returncode == -9, error=None if done.returncode == -9 else _crash(done.stderr)
            )
        said = json.loads(done.stdout)
        self.run.faults.update(said["fired"])
        return Outcome(said["result"], said["error"])

    def _read_error(self, error: dict[str, Any], job: engine.Job) -> None:
        """Says whether a message names the host, the store or the window, and what to do."""
        message = error["message"]
        places = ("127.0.0.1", job["folder"], WINDOW["start"][:10])
        if not error["is_ours"] or not any(place in message for place in places) or not _ADVICE.search(message):
            self.wrong(f"{error['kind']}: {message}", "unclear")

    def attempts(
        self, job: engine.Job, checked: Callable[[Outcome], None], *, calm: float = 0.0, side_by_side: bool = False
    ) -> tuple[Outcome, Counter[str]]:
        """Attempts until one is green: its outcome, and how often each event must have been seen by it.

        :param checked: called after each attempt.
        :param calm: the share of jobs that nothing happens to.
        :param side_by_side: a second attempt at the same job runs at the same time.
        """
        is_calm = self.chance.random() < calm
        for number in range(ATTEMPTS):
            is_last = number == ATTEMPTS - 1 or is_calm
            self.polar.clear_faults()
            if not is_last:
                self._order_faults(job["do"])
            required = Counter(event["id"] for event in self.stored())
            outcomes: list[Outcome] = []

            def act(outcomes: list[Outcome] = outcomes, is_last: bool = is_last) -> None:
                outcomes.append(self.attempt(job, is_calm=is_last))

            other = threading.Thread(target=act, daemon=True)
            if side_by_side and not is_last:
                self.run.faults["two at once"] += 1
                other.start()
            act()
            if other.ident is not None:
                other.join()
            self.run.faults.update({fault["kind"]: fault["fired"] for fault in self.polar._faults.describe()})
            outcome = next((one for one in outcomes if one.is_green), outcomes[0])
            checked(outcome)
            if outcome.is_green:
                self.polar.clear_faults()
                return outcome, required
            if is_last:
                break
        self.polar.clear_faults()
        return outcome, required


def _crash(stderr: str) -> dict[str, Any]:
    return {"kind": "crash", "message": stderr.strip().rpartition("\n")[2], "is_ours": False}


def events(chance: random.Random, most: int | None = None) -> list[dict[str, Any]]:
    """Events of the window: strewn, on whole seconds, and many in one millisecond."""
    made = []
    for _ in range(chance.randint(0, chance.choice([10, 50, 250]) if most is None else most)):
        second = chance.choice([chance.uniform(0, 3_599.9), chance.randint(0, 3_599), 1_800])
        moment = START + timedelta(microseconds=int(second * 1_000_000))
        made.append(
            {
                "name": chance.choice(["a", "b", "c"]),
                "timestamp": moment.isoformat(),
                "external_customer_id": f"c{chance.randint(1, 5)}",
                "metadata": {"n": chance.randrange(10**9), "share": chance.random()},
            }
        )
    return made
