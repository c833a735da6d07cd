"""A marathon of faults: ``python -m benchmarks.faults [--exports N] [--ingests N] [--killed N] [--seed N]``.

Exports (alone, with look-backs, put together from shards) and ingests run through faults of pages, transport and store,
deaths at random operations, and two at once. Runs are done by worker processes, one a core; each has a deadline, at
which its worker is killed and the run counts as hung. ``--only export:SEED`` repeats one run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from airflow_provider_polar.testing import LocalPolar
from benchmarks.faults_runs import do_run
from benchmarks.faults_world import Run

DEADLINE = 60.0
"""Seconds after which a run counts as hung; an ordinary one takes less than one, a killed one a few."""
WORKERS = 2
VERDICTS = ("lost", "twice", "wrong", "hung", "unclear", "failed")
_EXPORTS = ("export", "export", "look-back", "assembly")
_ROOT = Path(__file__).parents[1]
Task = tuple[str, int]


def plan(exports: int, ingests: int, killed: int, seed: int) -> Iterator[Task]:
    """The runs, killed ones last."""
    yield from ((_EXPORTS[number % len(_EXPORTS)], seed + number) for number in range(exports))
    yield from (("ingest", seed + number) for number in range(ingests))
    for number in range(killed):
        yield f"{_EXPORTS[number % len(_EXPORTS)]}-killed", seed + number
        yield "ingest-killed", seed + number


def work() -> None:
    """A worker: reads tasks, does them, and writes a line for each."""
    logging.getLogger("airflow_provider_polar").setLevel(logging.CRITICAL)
    with LocalPolar() as polar:
        for line in sys.stdin:
            kind, seed = json.loads(line)
            print(json.dumps(vars(do_run(polar, kind, seed))), flush=True)


class Worker:
    """A worker process, which is replaced when a run in it hangs or ends it."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.faults", "--work"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=_ROOT
        )

    def do(self, task: Task) -> Run:
        """A run; it is found hung where it has not ended at the deadline."""
        process, started = self._process, time.monotonic()
        assert process.stdin
        assert process.stdout
        timer = threading.Timer(self._deadline, self.close)
        timer.start()
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        timer.cancel()
        if line:
            value = json.loads(line)
            return Run(**{**value, "faults": Counter(value["faults"])})
        seconds = time.monotonic() - started
        self.close()
        self._process = self._start()
        is_hung = seconds >= self._deadline
        found = {"hung": f"no end after {seconds:.0f} s"} if is_hung else {"failed": "the worker died, see above"}
        return Run(*task, found=found, seconds=seconds)

    def close(self) -> None:
        """Kills it, and what it has started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


def marathon(tasks: list[Task], lines: TextIO | None = None, *, deadline: float = DEADLINE) -> list[Run]:
    """All runs.

    :param lines: takes each run as a line of JSON as soon as it has ended, so that nothing is lost when it is stopped.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    runs: list[Run] = []
    lock, started = threading.Lock(), time.monotonic()

    def serve() -> None:
        worker = Worker(deadline)
        try:
            while True:
                try:
                    run = worker.do(waiting.get_nowait())
                except queue.Empty:
                    return
                with lock:
                    runs.append(run)
                    if lines is not None:
                        print(json.dumps(vars(run)), file=lines, flush=True)
                    for verdict, told in run.found.items():
                        print(f"{verdict}: {told}: {_command(run)}", file=sys.stderr, flush=True)
                    if len(runs) % 100 == 0:
                        told = f"{len(runs):,} of {len(tasks):,} runs after {time.monotonic() - started:.0f} s"
                        print(told, file=sys.stderr, flush=True)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs


def _command(run: Run) -> str:
    return f"python -m benchmarks.faults --only {run.kind}:{run.seed}"


def table(runs: list[Run]) -> str:
    """What was found, by kind, as Markdown; then each failure with the command that repeats it."""
    lines = [f"| kind | runs | faults | {' | '.join(VERDICTS)} |", "|---" * (3 + len(VERDICTS)) + "|"]
    for kind in sorted({run.kind for run in runs}):
        chosen = [run for run in runs if run.kind == kind]
        found = Counter(verdict for run in chosen for verdict in run.found)
        faults = sum(run.faults.total() for run in chosen)
        counts = " | ".join(str(found[verdict]) for verdict in VERDICTS)
        lines.append(f"| {kind} | {len(chosen):,} | {faults:,} | {counts} |")
    total: Counter[str] = sum((run.faults for run in runs), Counter())
    lines.append("\nfaults: " + ", ".join(f"{kind} {count:,}" for kind, count in total.most_common()))
    lines += [f"{verdict}: {told}: {_command(run)}" for run in runs for verdict, told in run.found.items()]
    return "\n".join(lines)


def main() -> int:
    """Prints the table; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=1_000)
    parser.add_argument("--ingests", type=int, default=1_000)
    parser.add_argument("--killed", type=int, default=20, help="of each kind, in processes that die by SIGKILL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="KIND:SEED", help="repeat one run")
    parser.add_argument("--results", type=Path, help="a file for a line of JSON for each run")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work()
        return 0
    if given.only:
        kind, _, seed = given.only.partition(":")
        tasks = [(kind, int(seed))]
    else:
        tasks = list(plan(given.exports, given.ingests, given.killed, given.seed))
    started, date = time.monotonic(), datetime.now(UTC)
    if given.results is None:
        runs = marathon(tasks)
    else:
        with given.results.open("a") as lines:
            runs = marathon(tasks, lines)
    print(table(runs))
    print(f"\nseed {given.seed}, {date:%Y-%m-%d}, {time.monotonic() - started:,.0f} s")
    return int(any(run.found for run in runs))


if __name__ == "__main__":
    sys.exit(main())
