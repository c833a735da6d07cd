"""Traps of reading again: what is the same, what came late, and a state that runs ahead of the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from airflow_provider_polar.testing.acceptance.trap import HOUR, Run, Verdict, ids, judged, trap


@trap
def identical_reads(run: Run) -> Verdict:
    """Two full reads of a window in which nothing happens, compared field by field."""
    due = run.add(run.moments(250))
    first, second = run.read(), run.read()
    verdict = judged(due, ids(first))
    return (
        judged(*(sorted(json.dumps(event, sort_keys=True) for event in read) for read in (first, second)))
        if (verdict.passed)
        else verdict
    )


@trap
def late_events(run: Run) -> Verdict:
    """Events come to an hour that was read already; the next read is to give them too."""
    due = run.add(run.moments(150))
    first = run.sync(run.start, run.end)
    due += run.add([*run.moments(run.chance.randint(2, 9)), run.end, run.end + timedelta(minutes=1)])
    return judged(due, ids(first), ids(run.sync(run.start, run.end + HOUR)))


@trap
def future_state(run: Run) -> Verdict:
    """A window that is not over is read, so that the state lies in the future; what happens then is to be given."""
    now = datetime.now(UTC).replace(microsecond=0)
    begin, end = now - HOUR, now + timedelta(days=1)
    ago = [now - timedelta(seconds=seconds) for seconds in run.chance.sample(range(60, 3000), 20)]
    due = run.add(ago)
    first = run.sync(begin, end)
    due += run.add(now - timedelta(seconds=seconds) for seconds in range(run.chance.randint(2, 9)))
    return judged(due, ids(first), ids(run.sync(begin, end)))
