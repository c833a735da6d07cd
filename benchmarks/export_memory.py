"""Peak memory of an export of 3,000 and of 300,000 events, each in a process of its own.

python -m benchmarks.export_memory [SIZE ...]
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from airflow_provider_polar.testing import LocalPolar
from benchmarks.measuring import Measured, measure, table

START = datetime(2026, 1, 1, tzinfo=UTC)


def export(size: int) -> Measured:
    """So many events, evenly over a day, whole microseconds."""
    step = timedelta(days=1) / size
    with LocalPolar() as polar:
        due = polar.add_events(
            {"name": "call", "timestamp": START + step * i, "external_customer_id": f"c{i % 50}", "metadata": {"n": i}}
            for i in range(size)
        )
        end = START + timedelta(days=1)
        return measure(polar, "this provider", set(due), START.isoformat(), end.isoformat())


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [3_000, 300_000]
    found = [export(size) for size in sizes]
    for size, result in zip(sizes, found, strict=True):
        print(table([result], size))
    print(f"difference of peaks: {found[-1].peak_mb - found[0].peak_mb:.0f} MB")
