"""A short marathon of faults; `make faults` runs the long one."""

from __future__ import annotations

from benchmarks.faults import marathon, table


def test_a_short_marathon_finds_nothing() -> None:
    runs = marathon(exports=20, ingests=20, killed=1, seed=100_000)
    assert not any(run.found for run in runs), table(runs)
