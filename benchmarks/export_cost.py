"""What an export costs this process: ``python -m benchmarks.export_cost [--events N] [--format jsonl]``.

The server is a process of its own that responds at once from memory. Printed are events a second, and events a second
of processor time, from the first request to the published manifest; the best of three rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from urllib.parse import parse_qs

from benchmarks.costing import print_rounds, serving

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 100


def _event(number: int) -> bytes:
    event = {
        "id": str(uuid.UUID(int=number)),
        "timestamp": (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        "organization_id": str(uuid.UUID(int=1)),
        "customer_id": None,
        "customer": None,
        "external_customer_id": f"c{number % 17}",
        "member_id": None,
        "external_member_id": None,
        "child_count": 0,
        "parent_id": None,
        "label": "flight.departed",
        "name": "flight.departed",
        "source": "user",
        "metadata": {"flight": number, "origin": "JFK", "dest": "LAX", "dep_delay": number / 4},
    }
    return json.dumps(event, separators=(",", ":")).encode()


@lru_cache
def _events(number: int) -> list[bytes]:
    return [_event(n) for n in range(number)]


def _page(number: int, head: bytes, _body: bytes) -> bytes:
    """The response to a request for a page of so many events."""
    found = re.match(rb"GET [^?]*\?(\S*)", head)
    given = {name: values[0] for name, values in parse_qs(found[1].decode() if found else "").items()}

    def after(text: str, milliseconds: int = 0) -> int:
        """The number of the first event at or after a bound in whole milliseconds."""
        milliseconds += (datetime.fromisoformat(text) - START) // timedelta(milliseconds=1)
        return min(max(-(-milliseconds // 1000), 0), number)

    first, last = after(given["start_timestamp"], 1), after(given["end_timestamp"])
    rows = b",".join(_events(number)[first : min(last, first + int(given.get("limit", "10")))])
    total = max(0, last - first)
    ending = json.dumps({"total_count": total, "max_page": -(-total // PAGE)}).encode()
    return b'{"items":[' + rows + b'],"pagination":' + ending + b"}"


def main() -> None:
    """Prints the figures of each round and the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
    given = parser.parse_args()
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    from airflow_provider_polar.operators.export import PolarExportEventsOperator

    def export() -> str:
        with tempfile.TemporaryDirectory() as folder:
            operator = PolarExportEventsOperator(
                task_id="export",
                destination=f"file://{folder}",
                start=START.isoformat(),
                end=(START + timedelta(seconds=given.events)).isoformat(),
                file_format=given.format,
                requests_per_minute=10_000_000,
            )
            result = operator.execute({})
        assert result["rows"] == given.events
        return f"{result['requests']:,} requests"

    with serving(partial(_page, given.events)) as url:
        connection = {"conn_type": "polar", "host": url, "password": "polar_oat_benchmark"}
        os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps(connection)
        print_rounds(given.events, export)


if __name__ == "__main__":
    main()
