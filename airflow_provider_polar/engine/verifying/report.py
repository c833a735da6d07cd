"""The report of a verification: a file of JSON lines, and a short table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.verifying.differences import WORDS, customer_text, quantity_text
from airflow_provider_polar.engine.window import moment_text

if TYPE_CHECKING:
    from airflow_provider_polar.engine.verifying.verification import Verdict

_ROWS = 20


def publish(verdict: Verdict, buckets: Buckets, directory: Directory, name: str) -> str:
    """Writes the report, whole or not at all: a line for each difference, then one for each finding.

    Without any of them the file is empty; it takes the place of an earlier attempt's.

    :return: its path.
    :raises PolarDestinationError: the store refuses it.
    """
    with tempfile.NamedTemporaryFile(prefix="polar-verify-") as file:
        for line in [one.to_dict(buckets) for one in verdict.differences] + [one.to_dict() for one in verdict.findings]:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        file.flush()
        directory.upload(file.name, name)
    return directory.url_of(name)


def table(verdict: Verdict) -> Iterator[str]:
    """The first differences as the lines of a table."""
    rows = [("meter", "bucket", "customer", "expected", "metered", "what")]
    for one in verdict.differences[:_ROWS]:
        rows.append(
            (
                one.meter.name if one.meter else "-",
                moment_text(one.bucket),
                customer_text(one.customer).removeprefix("customer "),
                quantity_text(one.expected),
                "-" if one.metered is None else quantity_text(one.metered),
                WORDS[one.kind],
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if (more := len(verdict.differences) - _ROWS) > 0:
        yield f"and {more:,} more"
