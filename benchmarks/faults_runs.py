"""The runs of the marathon of faults: each has a seed, which decides its events, its faults and its deaths.

A run attempts a job until it is green, the last time without faults, and is held against what the local Polar stores.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_polar.testing import LocalPolar
from benchmarks import faults_engine as engine
from benchmarks.faults_world import START, Outcome, Run, World, events

_NOT_STORED = re.compile(r"([\d,]+) (?:is|are) not known to be stored")
_REFUSED_CUSTOMER = str(uuid.UUID(int=7))


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
    on_invalid = chance.choice(["fail", "skip"])
    made, bad = _rows(chance, with_bad=on_invalid == "skip")
    job = world.job("ingest", events=list(made), on_invalid=on_invalid)

    def look(outcome: Outcome) -> None:
        _look_at_stored(world, outcome, len(made), bad)
        chance.shuffle(job["events"])

    # In processes nothing is remembered; elsewhere the saved progress is taken up, or lost.
    if chance.random() < 0.3:
        world.memory = _Forgetful()
    outcome, _ = world.attempts(job, look, side_by_side=chance.random() < 0.15)
    if not outcome.is_green:
        world.wrong(str(outcome), "failed")


def _rows(chance: random.Random, *, with_bad: bool) -> tuple[list[dict[str, Any]], set[int]]:
    """Events, numbered in their metadata, and the numbers of those that must not be stored."""
    made = events(chance, chance.choice([10, 50, 200]))
    bad: set[int] = set()
    for number, event in enumerate(made):
        event["metadata"]["n"] = number
        if chance.random() < 0.2:
            event["external_id"] = f"own-{number}"
        if chance.random() < 0.1 and number:
            event["parent_id"] = made[number - 1].get("external_id") or f"own-{number}-none"
    if with_bad:
        for event in chance.sample(made, min(len(made), chance.choice([0, 0, 1, 3]))):
            bad.add(event["metadata"]["n"])
            event.pop("external_customer_id")
            if chance.random() < 0.5:
                event["customer_id"] = _REFUSED_CUSTOMER
    orphans = _without_parents(made, bad)
    if with_bad:
        return made, bad | orphans
    for number in orphans:
        made[number].pop("parent_id")
    return made, set()


def _look_at_stored(world: World, outcome: Outcome, made: int, bad: set[int]) -> None:
    """Holds what is stored after an attempt against what must be, and against what the attempt says."""
    good = set(range(made)) - bad
    stored = Counter(event["metadata"]["n"] for event in world.stored())
    if stored.total() != len(stored):
        world.wrong(f"{stored.total() - len(stored)} of {made}", "twice")
    if not set(stored) <= good:
        world.wrong("a row is stored that must not be")
    missing = len(good - set(stored))
    if outcome.is_green:
        if missing:
            world.wrong(f"{missing} of {made}", "lost")
        summary = outcome.result
        sums = summary["inserted"] + summary["duplicates"] + summary["rejected"]
        if (summary["events"], sums, summary["rejected"]) != (made, made, len(bad)):
            world.wrong(f"the summary {summary} for {made} rows, {len(bad)} of them bad")
    said = _NOT_STORED.search(outcome.error["message"]) if outcome.error else None
    if said and int(said[1].replace(",", "")) < missing:
        world.wrong(f"{missing} are not stored: {outcome}")


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
