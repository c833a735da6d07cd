"""What preparing an event for an ingest costs, stage by stage, in microseconds an event on one core.

Run ``python -m benchmarks.preparing``. Each figure is the best of many rounds, so a busy machine changes it little.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import IO, Any

from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.engine.ingesting.identity import Identities, run_scope
from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.engine.ingesting.sources import rows_of_files
from airflow_provider_polar.engine.ingesting.validation import EventValidator

ROWS, ROUNDS = 1000, 60
START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(kind: str, round_number: int) -> Iterator[dict[str, Any]]:
    """Rows of a warehouse (``plain``), with letters beyond ASCII (``accents``), of language models (``llm``)."""
    for number in range(round_number * ROWS, (round_number + 1) * ROWS):
        metadata: dict[str, Any] = {
            "route": f"/v1/items/{number % 50}",
            "milliseconds": number % 900,
            "cached": number % 3 == 0,
            "gigabytes": number / 7,
        }
        if kind == "accents":
            metadata["route"] = f"/données/{number % 50}"
        elif kind == "llm":
            tokens = {"input_tokens": number, "output_tokens": 2, "total_tokens": number + 2}
            metadata["_llm"] = {"vendor": "acme", "model": "large", **tokens}
            metadata["_cost"] = {"amount": f"{number * 0.0001:.6f}", "currency": "usd"}
        moment = START + timedelta(seconds=number * 7 % 10_000_000, microseconds=number)
        yield {
            "name": "api.call",
            "external_customer_id": f"cust_{number % 977}",
            "timestamp": moment.isoformat().replace("+00:00", "Z"),
            "metadata": metadata,
        }


class _File(BytesIO):
    """A file of JSON lines in memory."""

    def __str__(self) -> str:
        return "rows.jsonl"

    def open(self, mode: str) -> IO[bytes]:
        return self


def measure(kind: str) -> dict[str, float]:
    """Microseconds an event, by stage."""
    best: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        done = work()
        best[stage] = min(best.get(stage, 1e9), (time.perf_counter() - begin) / ROWS * 1e6)
        return done

    validate = EventValidator()
    with closing(temporary_database()) as database:
        identities = Identities(run_scope("dag", "task", "run", -1), database)

        def identify(events: list[dict[str, Any]], first: int) -> None:
            for number, event in enumerate(events, first):
                event["external_id"] = identities.identify(event, number)

        for number in range(ROUNDS):
            file = _File(b"".join(json.dumps(row).encode() + b"\n" for row in rows(kind, number)))
            read = timed("read", lambda file=file: list(rows_of_files([file])))
            events = timed("validate", lambda read=read: [validate(row.value)[0] for row in read])
            timed("identify", lambda events=events, number=number: identify(events, number * ROWS))
            timed("encode", lambda events=events: [encode_event(event) for event in events])
    return best


def main() -> None:
    """Prints a table."""
    stages = ("read", "validate", "identify", "encode")
    print(f"Python {sys.version.split()[0]}: microseconds an event")
    print(f"{'rows':10}" + "".join(f"{stage:>10}" for stage in (*stages, "sum")))
    for kind in ("plain", "accents", "llm"):
        best = measure(kind)
        print(f"{kind:10}" + "".join(f"{best[stage]:10.2f}" for stage in stages) + f"{sum(best.values()):10.2f}")


if __name__ == "__main__":
    main()
