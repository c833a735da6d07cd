"""Which events explain a quantity, by the quantities alone."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polar.engine.verifying.entries import Culprits, deduce, entries_of, telling_key
from tests.unit.engine.metering.meters import clause, event, meter

VALUES = {"a": 1, "b": 2, "c": 4, "d": 8}


def culprits(function: str, polar: float, values: dict[str, Any] | None = None) -> tuple[str, str, str]:
    it = meter(function)
    events = [event(id=name, metadata={"units": value}) for name, value in (values or VALUES).items()]
    found: Culprits = deduce(it.aggregation, entries_of(it, events), polar)
    absent, twice, perhaps = ("".join(one.id for one in kind) for kind in (found.absent, found.twice, found.perhaps))
    return absent, twice, perhaps


@pytest.mark.parametrize(
    ("function", "polar", "expected"),
    [
        ("count", 4, ("", "", "")),
        ("count", 3, ("", "", "abcd")),
        ("count", 0, ("abcd", "", "")),
        ("count", 5, ("", "", "")),
        ("sum", 15, ("", "", "")),
        ("sum", 11, ("c", "", "")),
        ("sum", 17, ("", "b", "")),
        ("sum", 12, ("", "", "abcd")),
        ("sum", 100, ("", "", "")),
        ("max", 2, ("cd", "", "")),
        ("max", 9, ("", "", "")),
        ("min", 4, ("ab", "", "")),
        ("min", 0.5, ("", "", "")),
        ("avg", 14 / 3, ("a", "", "")),
        ("avg", 23 / 5, ("", "d", "")),
        ("avg", 3.3, ("", "", "")),
        ("unique", 3, ("", "", "abcd")),
        ("unique", 6, ("", "", "")),
    ],
)
def test_culprits(function: str, polar: float, expected: tuple[str, str, str]) -> None:
    assert culprits(function, polar) == expected


def test_floats_are_told_apart_whatever_the_order_they_are_added_in() -> None:
    values = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 1e-9}
    assert culprits("sum", 0.3 + 0.2 + 0.1 + 1e-9, values) == ("", "", "")
    assert culprits("sum", 0.3 + 0.2 + 0.1, values) == ("d", "", "")
    assert culprits("max", 0.2, values) == ("c", "", "")


def test_the_key_that_tells_most_apart() -> None:
    def key(*metadata: dict[str, Any]) -> str | None:
        it = meter("count")
        return telling_key(entries_of(it, [event(id=str(i), metadata=one) for i, one in enumerate(metadata)]))

    assert key({"request": "r-1", "region": "eu"}, {"request": "r-2", "region": "eu"}) == "request"
    assert key({"n": 1, "request": "r-1"}, {"n": 2, "request": "r-2"}) == "request"
    assert key({"n": 1}, {"n": 2}) == "n"
    # Booleans, floats and objects have no text that is certain, and "None" is what no filter may be.
    assert key({"n": 1.5, "b": True, "o": {"x": "1"}, "t": "None"}, {"n": 2.5, "b": False, "o": {"x": "2"}}) is None
    assert key({"region": "eu"}, {"region": "eu"}) is None
    assert key({"region": "eu"}) == "region"
    assert key() is None


def test_only_what_the_meter_takes_counts() -> None:
    it = meter("sum", clause("name", "eq", "api.call"))
    events = [event(id="1", metadata={"units": 1}), event(id="2", name="other"), event(id="3", metadata={"units": "1"})]
    assert [entry.id for entry in entries_of(it, events)] == ["1"]
