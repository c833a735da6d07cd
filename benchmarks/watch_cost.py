"""What a watcher costs: ``python -m benchmarks.watch_cost [--rates 10 100 1000]``, a table of requests a minute.

A watch polls a local Polar once a minute of a clock of its own, with the usual overlap of 15 minutes. Events become
listable eight seconds after their timestamp. The columns add to that, each poll, an event that is ten minutes late,
or, once, an event that Polar counts and does not give. The first poll, which has the whole overlap to read, and what
the minutes until the overlap is full cost are left out. Every event is checked to be delivered once.
"""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import mean

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.waiting.cursor import WatchCursor
from airflow_provider_polar.engine.waiting.watch import Watch
from airflow_provider_polar.testing import LocalPolar

NAME = "api.call"
OVERLAP = timedelta(minutes=15)
DELAY = timedelta(seconds=8)
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
WARM, MEASURED = 16, 8


def requests_a_minute(rate: int, *, late: bool = False, ungiven: bool = False) -> float:
    """List requests a poll, on average, at so many events a minute.

    :raises AssertionError: an event was not delivered once.
    """
    cursor, watch = WatchCursor.from_start(START), Watch(EventFilters(), OVERLAP)
    due: list[str] = []
    delivered: Counter[str] = Counter()
    costs: list[int] = []
    with LocalPolar() as polar, PolarClient(polar.token, base_url=polar.base_url, requests_per_minute=1e6) as client:
        for minute in range(1, WARM + MEASURED + 1):
            now = START + DELAY + timedelta(minutes=minute)
            moments = [now - DELAY - timedelta(minutes=1) * (i + 0.5) / rate for i in range(rate)]
            if late and minute > WARM:
                moments.append(now - timedelta(minutes=10))
            events = [{"name": NAME, "external_customer_id": "c", "timestamp": moment} for moment in moments]
            due += polar.add_events(events)
            if ungiven and minute == WARM:
                polar.add_events([events[rate // 2]], store=False)
            before = len(polar.requests)
            look = drive(client, watch.poll({NAME: [cursor]}, now))
            delivered.update(row.id for row in cursor.take(look.rows[NAME], look.gone))
            cursor.advance(look.since)
            costs.append(len(polar.requests) - before)
    assert delivered == Counter(due), f"{len(due)} events, {len(delivered)} delivered, {delivered.total()} in all"
    return mean(costs[WARM:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[10, 90, 110, 200, 1_000, 3_000], help="events a minute"
    )
    print("| events a minute | requests a minute | with a late event each | with one that is never given |")
    print("| ---: | ---: | ---: | ---: |")
    for rate in parser.parse_args().rates:
        plain, late, lost = (requests_a_minute(rate, **case) for case in ({}, {"late": True}, {"ungiven": True}))
        print(f"| {rate:,} | {plain:.1f} | {late:.1f} | {lost:.1f} |", flush=True)


if __name__ == "__main__":
    main()
