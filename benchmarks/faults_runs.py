"""The runs of the marathon of faults: each has a seed, which decides its events, its faults and its deaths.

A run attempts a job until it is green, the last time without faults, and is held against what the local Polar stores.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
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
VERDICTS = ("lost", "twice", "wrong", "hung", "unclear", "failed")
_ADVICE = re.compile(r"retry|again|\bfix\b|\bset\b|check|clear|lower|upgrade|use |support", re.IGNORECASE)
_NOT_STORED = re.compile(r"([\d,]+) (?:is|are) not known to be stored")
_REFUSED_CUSTOMER = str(uuid.UUID(int=7))


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


# Exports


class Published:
    """What the manifests of a directory say, each held against its files."""

    def __init__(self, world: World) -> None:
        self.ids: Counter[str] = Counter()
        self.windows: set[tuple[str, str]] = set()
        self.manifests: list[dict[str, Any]] = []
        self.named: set[str] = set()
        for path in world.folder.glob("*manifest.json"):
            manifest = json.loads(path.read_bytes())
            self.manifests.append(manifest)
            self.windows.add((manifest["window"]["start"], manifest["window"]["end"]))
            self.named.add(path.name)
            for entry in manifest["files"]:
                file = world.folder / entry["path"]
                self.named.add(file.name)
                content = file.read_bytes() if file.exists() else b""
                rows = [json.loads(line)["id"] for line in content.splitlines()]
                if (len(rows), hashlib.sha256(content).hexdigest()) != (entry["rows"], entry["sha256"]):
                    world.wrong(f"{entry['path']} is not what its manifest says")
                self.ids.update(rows)


class Exports:
    """A directory of exports that is looked at after each attempt."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._seen: set[tuple[str, str]] = set()

    def look(self, _: Outcome) -> None:
        """A window that was exported stays so, whatever happens: alone, or within a whole."""
        now = Published(self.world).windows
        for start, end in self._seen - now:
            if not any(first <= start and end <= last for first, last in now):
                self.world.wrong(f"[{start}, {end}) was exported and has no manifest any more", "lost")
        self._seen |= now

    def until_green(self, job: engine.Job, **how: Any) -> Counter[str]:
        outcome, required = self.world.attempts(job, self.look, **how)
        if not outcome.is_green:
            self.world.wrong(str(outcome), "failed")
        return required

    def tidy(self, *jobs: engine.Job) -> None:
        """A death just before the end leaves what is staged, and looks equal: the window's next export removes it."""
        for job in jobs:
            if not (outcome := self.world.attempt(job, is_calm=True)).is_green:
                self.world.wrong(str(outcome), "failed")

    def check(self, required: Counter[str], ghosts: int = 0, *, is_tidy: bool = True) -> None:
        """After a green end every event is in the files once, and where it must be tidy, nothing else is there."""
        published, world = Published(self.world), self.world
        allowed = {event["id"] for event in world.stored()}
        # A page that comes out short again and again is published as incomplete where the user wants that.
        lacks = [lack for manifest in published.manifests for lack in manifest["missing"]]
        missing = set(required) - set(published.ids)
        if len(missing) > sum(lack["counted"] - lack["given"] for lack in lacks):
            world.wrong(f"{len(missing)} of {len(required)}", "lost")
        if published.ids.total() != len(published.ids):
            world.wrong(f"{published.ids.total() - len(published.ids)} of {len(published.ids)}", "twice")
        if set(published.ids) - allowed:
            world.wrong("an event that Polar does not list")
        if all(manifest["complete"] for manifest in published.manifests) == bool(ghosts):
            world.wrong(f"complete is {bool(ghosts)} with {ghosts} rows not given")
        left = {path.name for path in world.folder.iterdir()} - published.named
        if left and is_tidy:
            world.wrong(f"left over: {sorted(left)}")


def export(world: World) -> None:
    """A window with duplicates in the index and rows that are counted and not given; late events, and once more."""
    chance, exports = world.chance, Exports(world)
    made = events(chance)
    plain = chance.randint(0, len(made))
    world.add(made[:plain])
    world.add(made[plain:], copies=chance.choice([1, 1, 2]))
    ghosts = events(chance, 2) if chance.random() < 0.3 else []
    world.add(ghosts, store=False)
    world.arrivals = not ghosts
    if not ghosts:
        world.counts = [0, 1, 99, 10**9]
    side_by_side = chance.random() < 0.15
    job = world.job("export", on_incomplete=chance.choice(["fail", "warn"]) if ghosts else "fail")
    for _ in range(chance.choice([1, 2])):
        if ghosts and job["on_incomplete"] == "fail":
            outcome, _ = world.attempts(job, exports.look, side_by_side=side_by_side)
            if outcome.error is None or outcome.error["kind"] != "PolarIncompleteError":
                world.wrong(f"rows are not given, and the end is: {outcome}")
            if Published(world).windows:
                world.wrong("published although it must not be")
        else:
            required = exports.until_green(job, side_by_side=side_by_side)
            if side_by_side:
                exports.tidy(job)
            exports.check(required, len(ghosts))
        world.add(events(chance, 5))


def look_back(world: World) -> None:
    """Adjacent windows are exported; events come late; the look-back of the last one exports again what changed."""
    chance, exports = world.chance, Exports(world)
    world.add(events(chance))
    number = chance.randint(2, 4)
    edges = [START + timedelta(hours=1) * k / number for k in range(number + 1)]
    windows = [{"start": edges[k].isoformat(), "end": edges[k + 1].isoformat()} for k in range(number)]
    for window in windows[:-1]:
        exports.until_green(world.job("export", window=window), calm=0.7)
    for _ in range(2):
        world.add(events(chance, 8))
        job = world.job("look_back", window=windows[-1])
        required = exports.until_green(job, side_by_side=chance.random() < 0.15)
        exports.check(required, is_tidy=False)
        exports.tidy(*(world.job("export", window=window) for window in windows))
        exports.check(required)


def assembly(world: World) -> None:
    """A window in shards, put together; then late events, a shard exported again, and put together again."""
    chance, exports = world.chance, Exports(world)
    world.add(events(chance))
    plan = world.attempt(world.job("plan", shards=chance.randint(2, 4)), is_calm=True).result
    for shard in plan:
        exports.until_green(world.job("export", window=shard), calm=0.7)
    for _ in range(2):
        world.add(events(chance, 3))
        job = world.job("assemble", plan=plan)
        required = exports.until_green(job, side_by_side=chance.random() < 0.15)
        exports.check(required, is_tidy=False)
        exports.tidy(*(world.job("export", window=shard) for shard in plan), job)
        exports.check(required)
        world.add(events(chance, 3))
        exports.until_green(world.job("export", window=chance.choice(plan)), calm=0.5)


# Ingests


def ingest(world: World) -> None:
    """Rows, some of which are invalid or refused by Polar, until they are stored; each attempt in another order."""
    chance = world.chance
    made = events(chance, chance.choice([10, 50, 200]))
    on_invalid = chance.choice(["fail", "skip"])
    bad: set[int] = set()
    for number, event in enumerate(made):
        event["metadata"]["n"] = number
        if chance.random() < 0.2:
            event["external_id"] = f"own-{number}"
        if chance.random() < 0.1 and number:
            event["parent_id"] = made[number - 1].get("external_id") or f"own-{number}-none"
    if on_invalid == "skip":
        for event in chance.sample(made, min(len(made), chance.choice([0, 0, 1, 3]))):
            bad.add(event["metadata"]["n"])
            event.pop("external_customer_id")
            if chance.random() < 0.5:
                event["customer_id"] = _REFUSED_CUSTOMER
    bad |= _without_parents(made, bad)
    if on_invalid == "fail":
        for number in bad:
            made[number].pop("parent_id")
        bad = set()
    good = set(range(len(made))) - bad

    def look(outcome: Outcome) -> None:
        stored = Counter(event["metadata"]["n"] for event in world.stored())
        if stored.total() != len(stored):
            world.wrong(f"{stored.total() - len(stored)} of {len(made)}", "twice")
        if not set(stored) <= good:
            world.wrong("a row is stored that must not be")
        missing = len(good - set(stored))
        if outcome.is_green and missing:
            world.wrong(f"{missing} of {len(made)}", "lost")
        if outcome.is_green:
            summary = outcome.result
            sums = summary["inserted"] + summary["duplicates"] + summary["rejected"]
            if (summary["events"], sums, summary["rejected"]) != (len(made), len(made), len(bad)):
                world.wrong(f"the summary {summary} for {len(made)} rows, {len(bad)} of them bad")
        said = _NOT_STORED.search(outcome.error["message"]) if outcome.error else None
        if said and int(said[1].replace(",", "")) < missing:
            world.wrong(f"{missing} are not stored: {outcome}")
        chance.shuffle(job["events"])

    job = world.job("ingest", events=list(made), on_invalid=on_invalid)
    # In processes nothing is remembered; elsewhere the saved progress is taken up, or lost.
    if chance.random() < 0.3:
        world.memory = _Forgetful()
    outcome, _ = world.attempts(job, look, side_by_side=chance.random() < 0.15)
    if not outcome.is_green:
        world.wrong(str(outcome), "failed")


class _Forgetful(engine.Memory):
    def load(self) -> Any:
        return None


def _without_parents(made: Sequence[dict[str, Any]], bad: set[int]) -> set[int]:
    """The events whose parent is not there, or is itself bad or without one."""
    by_id = {event["external_id"]: event["metadata"]["n"] for event in made if "external_id" in event}
    orphans: set[int] = set()
    for event in made:
        if "parent_id" in event:
            parent = by_id.get(event["parent_id"])
            if parent is None or parent in bad | orphans:
                orphans.add(event["metadata"]["n"])
    return orphans


KINDS: dict[str, Callable[[World], None]] = {
    "export": export,
    "look-back": look_back,
    "assembly": assembly,
    "ingest": ingest,
}


def do_run(polar: LocalPolar, kind: str, seed: int) -> Run:
    """One run. A kind that ends in ``-killed`` has attempts in processes that die by SIGKILL."""
    run, started = Run(kind, seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        name = kind.removesuffix("-killed")
        KINDS[name](World(polar, run, folder, with_sigkill=name != kind))
    run.seconds = round(time.monotonic() - started, 2)
    return run
