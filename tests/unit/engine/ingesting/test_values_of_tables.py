"""Values as databases and data frames give them: ids, days, exact numbers and what is no number."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.engine.ingesting.test_mapping import mapped, one
from tests.unit.engine.ingesting.test_validation import LLM, check, metadata

ID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ID, "00000000-0000-0000-0000-000000000007"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (1.5, "1.5"),
        (False, "false"),
        (b"x", "a bytes has no text form here"),
        ([1], "a list has no text form here"),
        pytest.param(10**5_000, "has too many digits", id="thousands of digits"),
    ],
)
def test_as_text(value: Any, text: str) -> None:
    assert one(value, type="str") == text


@pytest.mark.parametrize(
    ("value", "spec", "moment"),
    [
        (20260102, {"format": "%Y%m%d", "timezone": "UTC"}, datetime(2026, 1, 2, tzinfo=UTC)),
        (date(2026, 1, 2), {"timezone": "UTC"}, datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, tzinfo=UTC), {}, datetime(2026, 1, 2, tzinfo=UTC)),
        (" 2026-01-02T00:00:00Z ", {}, datetime(2026, 1, 2, tzinfo=UTC)),
        (1767225600.5, {"format": "unix"}, datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        (Decimal("1767225600123.456"), {"format": "unix_ms"}, datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)),
        (math.nan, {"format": "unix"}, "is not a number of seconds"),
        (Decimal("1E+9999999"), {"format": "unix_ms"}, "is not a number of milliseconds"),
        (b"x", {}, "is not an ISO 8601 moment"),
    ],
)
def test_as_a_moment(value: Any, spec: dict[str, Any], moment: Any) -> None:
    event, problems = mapped({"carrier": "UA", "v": value}, timestamp={"column": "v", **spec})
    assert (problems[0].message if problems else event["timestamp"]) == moment


@pytest.mark.parametrize("value", [5, 5.0, Decimal(5), Decimal("5.00")])
def test_counts_of_a_model_are_whole_numbers(value: Any) -> None:
    event, problems = check(metadata(_llm={**LLM, "input_tokens": value}))
    assert problems == []
    assert event["metadata"]["_llm"]["input_tokens"] == 5
    assert type(event["metadata"]["_llm"]["input_tokens"]) is int


@pytest.mark.parametrize(
    "value", [True, "5", 5.5, Decimal("5.5"), math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity"), [5], b"5"]
)
def test_counts_of_a_model_are_nothing_else(value: Any) -> None:
    _, (problem,) = check(metadata(_llm={**LLM, "input_tokens": value}))
    assert problem.field == "metadata._llm.input_tokens"
    assert "whole number" in problem.message


def test_what_a_model_leaves_empty_is_left_out_and_nothing_else() -> None:
    told = {**LLM, "response": "r"}
    event, problems = check(metadata(_llm={"prompt": None, **told, "cached_input_tokens": None}))
    assert problems == []
    assert event["metadata"]["_llm"] == told
