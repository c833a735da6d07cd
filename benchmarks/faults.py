"""A marathon of faults: ``python -m benchmarks.faults [--exports N] [--ingests N] [--killed N] [--seed N]``.

Each run has a seed of its own, which decides its events and its faults: of pages, of transport, of the store, deaths
at random operations, and two at once on the same window. A run is attempted until it is green, the last time without
faults, and held against what the local Polar stores. ``--only export:SEED`` repeats one run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from airflow_provider_polar.exceptions import PolarError, PolarIncompleteError
from airflow_provider_polar.testing import LocalPolar, RequestRecord
from benchmarks import faults_engine as engine

START = datetime(2026, 10, 1, tzinfo=UTC)
WINDOW = (START.isoformat(), (START + timedelta(hours=1)).isoformat())
ATTEMPTS = 6
PATIENCE = 60.0
"""Seconds after which an attempt counts as hung; one without faults takes less than a second."""
VERDICTS = ("lost", "twice", "wrong", "hung", "unclear", "failed")
Kind = Literal["export", "ingest"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it, and nothing happens after it."""


@dataclass
class Run:
    """One run: its chance, what was done to it, and what was found."""

    kind: Kind
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    found: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """Repeats it."""
        return f"python -m benchmarks.faults --only {self.kind}:{self.seed}"


class Strikes:
    """Dies at one operation, and at every later one; or lets the store fail at one."""

    def __init__(self, run: Run, chance: random.Random) -> None:
        self._run = run
        self._number = 0
        self._lock = threading.Lock()
        self._death = chance.randint(1, 60) if chance.random() < 0.5 else None
        self._failure = chance.randint(1, 60) if chance.random() < 0.3 else None

    def __call__(self, what: str) -> None:
        with self._lock:
            self._number += 1
            if self._death is not None and self._number >= self._death:
                self._run.faults["death"] += self._number == self._death
                raise Killed
            if what == "store" and self._failure is not None and self._number >= self._failure:
                self._failure = None
                self._run.faults["store"] += 1
                raise OSError("the store is away")


def no_strike(_what: str) -> None:
    """Lets everything pass."""


def events(chance: random.Random, most: int = 350) -> list[dict[str, Any]]:
    """Events of the window: strewn, on whole seconds, and many in one millisecond."""
    made = []
    for number in range(chance.randint(0, most)):
        second = chance.choice([chance.uniform(0, 3_599.9), chance.randint(0, 3_599), 1_800])
        moment = START + timedelta(microseconds=int(second * 1_000_000))
        customer = f"c{chance.randint(1, 5)}"
        made.append(
            {
                "name": chance.choice(["a", "b", "c"]),
                "timestamp": moment.isoformat(),
                "external_customer_id": customer,
                "metadata": {"n": number, "share": chance.random()},
            }
        )
    return made


def order_faults(polar: LocalPolar, chance: random.Random, kind: Kind) -> None:
    """A few faults, each at a few requests."""
    path: Any = "ingest" if kind == "ingest" else "list"
    common: list[dict[str, Any]] = [
        {"kind": "status", "status": chance.choice([500, 502, 503])},
        {"kind": "rate_limit", "retry_after": 0},
        *({"kind": name} for name in ("reset", "lost_answer", "truncated", "broken")),
    ]
    pages = [
        {"kind": "short_page", "rows": chance.choice([1, 7, 100])},
        {"kind": "count", "total_count": chance.choice([0, 10**9])},
        {"kind": "arrival", "before": chance.choice(["page", "count"]), "events": events(chance, 3)},
    ]
    kinds = [*common, {"kind": "deadlock"}] if kind == "ingest" else [*common, *pages]
    for fault in chance.sample(kinds, chance.randint(0, 3)):
        polar.fail(**fault, path=path, after=chance.randint(0, 8), times=chance.choice([1, 1, 2, 5]))


def attempt(run: Run, where: str, action: Callable[[], None]) -> BaseException | None:
    """How an attempt ended, None for green; watched, and its error read as a user reads it."""
    ended: list[BaseException | None] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not ended:
        run.found["hung"] = f"no end after {PATIENCE} s"
        return Killed()
    error = ended[0]
    if error is not None and not isinstance(error, Killed):
        # A failure says on which host, in which store or of which window it happened.
        told = (where, "127.0.0.1", WINDOW[0][:10], "batch")
        if not isinstance(error, PolarError) or not any(word in str(error) for word in told):
            run.found["unclear"] = f"{type(error).__name__}: {error}"[:200]
    return error


def check_export(run: Run, folder: Path, required: Counter[str], allowed: set[str], ghosts: int) -> None:
    """The published files against what Polar lists."""
    exported: Counter[str] = Counter()
    complete = True
    for path in folder.glob("*manifest.json"):
        manifest = json.loads(path.read_bytes())
        complete &= manifest["complete"]
        for entry in manifest["files"]:
            content = (folder / entry["path"]).read_bytes() if (folder / entry["path"]).exists() else b""
            rows = [json.loads(line)["id"] for line in content.splitlines()]
            if (len(rows), hashlib.sha256(content).hexdigest()) != (entry["rows"], entry["sha256"]):
                run.found["wrong"] = f"{entry['path']} is not what its manifest says"
            exported.update(rows)
    if missing := set(required) - set(exported):
        run.found["lost"] = f"{len(missing)} of {len(required)}"
    if exported.total() != len(exported):
        run.found["twice"] = f"{exported.total() - len(exported)}"
    if set(exported) - allowed:
        run.found["wrong"] = "an event that Polar does not list"
    if complete == bool(ghosts):
        run.found["wrong"] = f"complete is {complete} with {ghosts} rows not given"


def export_run(polar: LocalPolar, run: Run) -> None:
    """Exports a window until it is green; then late events come, and it is exported once more."""
    chance = random.Random(f"export {run.seed}")
    token = begin(polar, run)
    made = events(chance)
    plain = chance.randint(0, len(made))
    ghosts = chance.choice([0, 0, 0, 1, 2]) if made else 0
    here = {"organization_id": polar._directory.token(token)[0]}  # type: ignore[index]
    polar.add_events(made[:plain], **here)
    polar.add_events(made[plain:], copies=chance.choice([1, 1, 2]), **here)
    polar.add_events(made[:ghosts], store=False, **here)
    side_by_side = chance.random() < 0.1

    def once(folder: str, strike: engine.Strike) -> None:
        with engine.client(polar.base_url, token, strike) as client:
            engine.export(client, folder, strike, WINDOW, "warn" if ghosts else "fail")

    with tempfile.TemporaryDirectory() as folder:
        for _round in range(2):
            until_green(polar, run, chance, folder, once, here, ghosts, side_by_side)
            polar.add_events(events(chance, 5), **here)


def until_green(
    polar: LocalPolar,
    run: Run,
    chance: random.Random,
    folder: str,
    once: Callable[[str, engine.Strike], None],
    here: dict[str, str],
    ghosts: int,
    side_by_side: bool,
) -> None:
    """Attempts with faults, the last one without; checked after the first green one."""
    for number in range(ATTEMPTS):
        polar.clear_faults()
        last = number == ATTEMPTS - 1
        if not last:
            order_faults(polar, chance, "export")
        strike: engine.Strike = no_strike if last or side_by_side else Strikes(run, chance)
        required = Counter(event["id"] for event in polar.events(**here))
        other = threading.Thread(target=attempt, args=(run, folder, lambda: once(folder, no_strike)))
        if side_by_side:
            run.faults["two at once"] += 1
            other.start()
        error = attempt(run, folder, lambda strike=strike: once(folder, strike))  # type: ignore[misc]
        if side_by_side:
            other.join(PATIENCE)
        run.faults.update({fault["kind"]: fault["fired"] for fault in polar._faults.describe()})
        if error is None:
            allowed = {event["id"] for event in polar.events(**here)}
            check_export(run, Path(folder), required, allowed, ghosts)
            return
    run.found["failed"] = f"{type(error).__name__}: {error}"[:200]
    if isinstance(error, PolarIncompleteError):
        run.found["failed"] = "a window that is complete is called incomplete"


def ingest_run(polar: LocalPolar, run: Run) -> None:
    """Ingests events until it is green."""
    chance = random.Random(f"ingest {run.seed}")
    token = begin(polar, run)
    made = events(chance, 250)
    here = {"organization_id": polar._directory.token(token)[0]}  # type: ignore[index]
    error: BaseException | None = None
    for number in range(ATTEMPTS):
        polar.clear_faults()
        last = number == ATTEMPTS - 1
        if not last:
            order_faults(polar, chance, "ingest")
        strike: engine.Strike = no_strike if last else Strikes(run, chance)
        chance.shuffle(made)

        def once(strike: engine.Strike = strike) -> None:
            with engine.client(polar.base_url, token, strike) as client:
                engine.ingest(client, made)

        error = attempt(run, polar.base_url, once)
        run.faults.update({fault["kind"]: fault["fired"] for fault in polar._faults.describe()})
        if error is None:
            break
    else:
        run.found["failed"] = f"{type(error).__name__}: {error}"[:200]
    check_ingest(polar, run, made, here)


def check_ingest(polar: LocalPolar, run: Run, made: list[dict[str, Any]], here: dict[str, str]) -> None:
    """What is stored against what was to be sent; the number in each event's metadata tells them apart."""
    stored = Counter(event["metadata"]["n"] for event in polar.events(**here))
    if lost := len(made) - len(stored):
        run.found["lost"] = f"{lost} of {len(made)}"
    if stored.total() != len(stored):
        run.found["twice"] = f"{stored.total() - len(stored)}"


def begin(polar: LocalPolar, run: Run) -> str:
    """An organization of the run's own; its token."""
    polar.clear_faults()
    polar.clear_requests()
    token = f"polar_oat_{run.kind}_{run.seed}_{time.monotonic_ns()}"
    polar.add_token(token, organization_id=polar.add_organization())
    return token


def killed_run(polar: LocalPolar, run: Run) -> None:
    """The same in processes that are killed by SIGKILL at a random request, and then once more to the end."""
    chance = random.Random(f"killed {run.kind} {run.seed}")
    token = begin(polar, run)
    here = {"organization_id": polar._directory.token(token)[0]}  # type: ignore[index]
    made = events(chance)
    if run.kind == "export":
        polar.add_events(made, **here)
    with tempfile.TemporaryDirectory() as folder:
        job = {"kind": run.kind, "base_url": polar.base_url, "token": token, "folder": folder, "window": WINDOW}
        code = -1
        for last in (False, True):
            command = [sys.executable, "-m", "benchmarks.faults_engine"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            left = [chance.randint(1, 8)]

            def kill(_record: RequestRecord, process: Any = process, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == 0:
                    process.kill()

            if not last:
                polar.on_request(kill)
            _, stderr = process.communicate(json.dumps({**job, "events": made}).encode())
            polar.clear_callbacks()
            run.faults["SIGKILL"] += process.returncode == -9
            code = process.returncode
        if code:
            run.found["failed"] = stderr.decode().strip().splitlines()[-1][:200]
        elif run.kind == "export":
            required = Counter(event["id"] for event in polar.events(**here))
            check_export(run, Path(folder), required, set(required), 0)
        else:
            check_ingest(polar, run, made, here)


def marathon(exports: int, ingests: int, killed: int, seed: int) -> list[Run]:
    """All runs, one after the other, against one local Polar."""
    runs: list[Run] = []
    plan: list[tuple[Kind, int, Callable[[LocalPolar, Run], None]]] = [
        ("export", exports, export_run),
        ("ingest", ingests, ingest_run),
        ("export", killed, killed_run),
        ("ingest", killed, killed_run),
    ]
    logging.getLogger("airflow_provider_polar").setLevel(logging.CRITICAL)
    with LocalPolar() as polar:
        for kind, number, action in plan:
            for offset in range(number):
                runs.append(Run(kind, seed + offset))
                action(polar, runs[-1])
    return runs


def table(runs: list[Run]) -> str:
    """What was found, by kind, as Markdown; then each failure with the command that repeats it."""
    lines = [f"| kind | runs | faults | {' | '.join(VERDICTS)} |", "|---" * (3 + len(VERDICTS)) + "|"]
    for kind in ("export", "ingest"):
        chosen = [run for run in runs if run.kind == kind]
        found = Counter(verdict for run in chosen for verdict in run.found)
        faults = sum(run.faults.total() for run in chosen)
        counts = " | ".join(str(found[verdict]) for verdict in VERDICTS)
        lines.append(f"| {kind} | {len(chosen):,} | {faults:,} | {counts} |")
    total: Counter[str] = sum((run.faults for run in runs), Counter())
    lines.append("\nfaults: " + ", ".join(f"{kind} {count:,}" for kind, count in total.most_common()))
    lines += [f"{verdict}: {told}: {run.command}" for run in runs for verdict, told in run.found.items()]
    return "\n".join(lines)


def main() -> int:
    """Prints the table; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=1_000)
    parser.add_argument("--ingests", type=int, default=1_000)
    parser.add_argument("--killed", type=int, default=20, help="of each kind, in processes that are killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="KIND:SEED", help="repeat one run")
    given = parser.parse_args()
    if given.only:
        kind, _, seed = given.only.partition(":")
        runs = marathon(int(kind == "export"), int(kind == "ingest"), 0, int(seed))
    else:
        runs = marathon(given.exports, given.ingests, given.killed, given.seed)
    print(table(runs))
    return int(any(run.found for run in runs))


if __name__ == "__main__":
    sys.exit(main())
