"""Traps of a listing: its bounds, its order and its pages."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from airflow_provider_polar.testing.acceptance.trap import HOUR, Run, Verdict, ids, judged, trap
from airflow_provider_polar.testing.faults import RequestRecord

_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


@trap
def window_edges(run: Run) -> Verdict:
    """Two adjacent hours with events at their edges: bounds are exclusive, in whole milliseconds."""
    edges = (run.start, run.end, run.end + HOUR)
    windows = list(pairwise(edges))
    due = []
    for start, end in windows:
        first = [start, start + _MICROSECOND, start + _MILLISECOND - _MICROSECOND]
        due.append(run.add([*first, end - 30 * _MILLISECOND, end - _MILLISECOND, end - _MICROSECOND]))
    run.add([run.start - _MICROSECOND, edges[2], edges[2] + _MICROSECOND])
    verdicts = [judged(wanted, ids(run.read(*window))) for window, wanted in zip(windows, due, strict=True)]
    return Verdict(sum(v.lost for v in verdicts), sum(v.twice for v in verdicts))


@trap
def ties(run: Run) -> Verdict:
    """Events in bursts on whole seconds: pages have no order among those that share a millisecond."""
    seconds = run.chance.sample(range(3600), 40)
    due = run.add(run.start + timedelta(seconds=second) for second in seconds for _ in range(run.chance.randint(2, 20)))
    return judged(due, ids(run.read()))


@trap
def dense_millisecond(run: Run) -> Verdict:
    """More events in one millisecond than fit on a page, as of a nightly roll-up."""
    moment = run.start + timedelta(minutes=30)
    due = run.add([*run.moments(50), *[moment] * run.chance.randint(250, 400)])
    return judged(due, ids(run.read()))


@trap
def short_pages(run: Run) -> Verdict:
    """Pages with fewer rows than were requested, though more follow: some events are counted twice."""
    moments = run.moments(320)
    twice = set(run.chance.sample(range(90), 3))
    due = run.add(moment for place, moment in enumerate(moments) if place not in twice)
    due += run.add((moments[place] for place in twice), copies=2)
    return judged(due, ids(run.read()))


@trap
def duplicates(run: Run) -> Verdict:
    """Some events are counted twice, and given twice."""
    run.polar.settings.collapse_duplicates = False
    moments = run.moments(320)
    twice = set(run.chance.sample(range(320), 5))
    due = run.add(moment for place, moment in enumerate(moments) if place not in twice)
    due += run.add((moments[place] for place in twice), copies=2)
    return judged(due, ids(run.read()))


@trap
def rows_left_out(run: Run) -> Verdict:
    """A page lacks its last rows, once; its count includes them."""
    due = run.add(run.moments(320))
    run.polar.fail("short_page", path="list", rows=run.chance.randint(1, 20), times=1, when=_full)
    return judged(due, ids(run.read()))


def _full(record: RequestRecord) -> bool:
    """Whether a request is for whole pages, and not for a count alone."""
    return ("limit", "1") not in record.params
