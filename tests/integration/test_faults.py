"""A short marathon of faults; ``make faults`` is the whole."""

from __future__ import annotations

import json
from io import StringIO

from benchmarks.faults import marathon, plan, table


def test_nothing_is_lost_twice_wrong_hung_or_unclear() -> None:
    runs = marathon(list(plan(exports=28, ingests=28, killed=1, seed=20_261_001)))
    assert len(runs) == 58
    assert sum(run.faults.total() for run in runs) > 200
    assert not [run for run in runs if run.found], table(runs)


def test_a_run_that_does_not_end_is_hung_and_the_others_go_on() -> None:
    lines = StringIO()
    runs = marathon([("ingest", 1), ("ingest", 2), ("ingest", 3)], lines, deadline=0.001)
    assert {(run.kind, run.seed, *run.found) for run in runs} == {("ingest", seed, "hung") for seed in (1, 2, 3)}
    assert [json.loads(line)["found"] for line in lines.getvalue().splitlines()] == [run.found for run in runs]
    assert "| ingest | 3 | 0 | 0 | 0 | 0 | 3 | 0 | 0 |" in table(runs)
