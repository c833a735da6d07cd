"""Differences planted in two stores, and in an export's files: every one is named, and nothing else is.

A few dozen of them; ``VERIFY_PLANTS=1000`` (``make verify-proof``) plants more, and verifies more worlds in which
nothing differs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator
from airflow_provider_polar.testing import LocalPolar
from tests.integration.planting import FILES, HOUR, KNOWN, LEFT_OUT, RULES, START, STORES, UNKNOWN, Plant, World

PLANTS = int(os.environ.get("VERIFY_PLANTS", "50"))
CLEAN_RUNS = 20 if PLANTS >= 1000 else 2
HOURS = max(12, PLANTS // 5)

pytestmark = pytest.mark.usefixtures("polar_connection")


def verify(world: World, folder: Path, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result, and the lines of the report."""
    path = folder / "report.jsonl"
    given: dict[str, Any] = {"start": world.start, "end": world.end, "report_path": str(path), "on_difference": "warn"}
    operator = PolarVerifyUsageOperator(task_id="verify", requests_per_minute=600_000, **(given | options))
    result = operator.execute({})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert result["differences"] == sum(line["type"] == "difference" for line in lines)
    assert result["equal"] == (not result["differences"])
    return result, lines


KINDS = {
    "not_metered": ["not_metered"],
    "twice": ["metered_twice"],
    "other": ["other_customer"],
    # Of a mean only, nobody can tell whether something more is in it.
    "not_listed": ["not_listed", "different", "only_in_files"],
    "removed": ["only_in_files"],
    "added": ["not_in_files"],
}


def check(plants: Sequence[Plant], lines: Sequence[dict[str, Any]], also: Sequence[Plant] = ()) -> None:
    """Every plant is named with meter, hour, each of its customers, its kind, and its event where that is listed, and
    no line is about anything else.

    :param also: plants that may be named.
    """
    due = {place: plant for plant in [*plants, *also] for place in plant.places()}
    named: set[tuple[str, datetime, str]] = set()
    wrong = []
    for line in lines:
        if line["type"] != "difference":
            continue
        whose = {line["external_customer_id"], line["other_external_customer_id"]} - {None}
        places = {(line["meter"], datetime.fromisoformat(line["start"]), who) for who in whose}
        plant = due.get(min(places, default=("", START, "")))
        right = plant is not None and places <= plant.places() and line["kind"] in KINDS[plant.kind]
        if right and (plant.event in line["event_ids"] or line["kind"] in ("not_listed", "different")):
            named |= places
        else:
            wrong.append((plant and plant.kind, line["text"]))
    missed = [plant for plant in plants if not plant.places() <= named]
    assert not missed, (Counter((plant.kind, plant.meter) for plant in missed), missed[:3])
    assert not wrong, (len(wrong), wrong[:3])


def check_findings(world: World, lines: Sequence[dict[str, Any]]) -> None:
    """What meters leave out by their own rule is told as that, with the number of events."""
    told: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if line["type"] == "finding":
            told[line["meter"], "boolean" if "a boolean" in line["text"] else "text"] += line["events"]
    assert told == world.left_out()


def test_every_difference_of_the_two_stores_is_named(polar_server: LocalPolar, tmp_path: Path) -> None:
    world = World(polar_server, 1, HOURS, PLANTS, STORES + LEFT_OUT)
    world.differ()
    _, lines = verify(world, tmp_path, by="customer")
    check([plant for plant in world.plants if plant.kind in STORES], lines)
    check_findings(world, lines)


def test_without_customers_everything_is_named_that_does_not_cancel_out(
    polar_server: LocalPolar, tmp_path: Path
) -> None:
    """What is metered for another customer leaves the totals of sums and counts as they are."""
    world = World(polar_server, 7, HOURS, PLANTS, STORES)
    world.differ()
    _, lines = verify(world, tmp_path, sample=0)
    check([plant for plant in world.plants if plant.kind != "other"], lines, also=world.plants)


def test_every_difference_from_an_exports_files_is_named(polar_server: LocalPolar, tmp_path: Path) -> None:
    """Events that are gone since, and such as came late, besides the differences of the two stores."""
    world = World(polar_server, 11, HOURS, PLANTS, STORES + FILES + LEFT_OUT)
    span = {"start": world.start, "end": world.end, "destination": str(tmp_path / "lake")}
    PolarExportEventsOperator(task_id="export", requests_per_minute=600_000, **span).execute({})
    world.differ()
    _, lines = verify(world, tmp_path, by="customer", destination=span["destination"])
    check([plant for plant in world.plants if plant.kind not in LEFT_OUT], lines)
    for plant in world.plants:
        if plant.kind in FILES:
            # Files and list are compared by id.
            assert any(plant.event in line["event_ids"] for line in lines if line["type"] == "difference"), plant
    check_findings(world, lines)


def test_what_was_sent_and_is_gone_from_both_stores_is_named(polar_server: LocalPolar, tmp_path: Path) -> None:
    world = World(polar_server, 13, HOURS, PLANTS, ("removed",))
    world.differ()
    assert verify(world, tmp_path, by="customer")[0]["equal"]
    _, lines = verify(world, tmp_path, sample=0, events=world.sent)
    names = {rule.name: rule.event_name for rule in RULES}
    due = {(names[plant.meter], plant.customer, plant.hour) for plant in world.plants}
    told = [line for line in lines if line["type"] == "difference"]
    assert {line["kind"] for line in told} == {"not_stored"}
    said = Counter((line["external_customer_id"], datetime.fromisoformat(line["start"])) for line in told)
    assert said == Counter((customer, hour) for _, customer, hour in due)
    for name, customer, hour in due:
        assert any(name in line["text"] and customer in line["text"] for line in told), (name, customer, hour)


# The clocks change on the day after each; Cairo and Havana skip midnight.
CHANGES = [("Europe/Berlin", "2026-03-28"), ("Africa/Cairo", "2026-04-23"), ("America/Havana", "2026-03-07")]


@pytest.mark.parametrize("seed", range(CLEAN_RUNS))
def test_where_nothing_differs_nothing_is_reported(polar_server: LocalPolar, tmp_path: Path, seed: int) -> None:
    """Floats in any order, half seconds, unicode and nested paths, by hour and by days on which the clocks change."""
    zone, day = CHANGES[seed % len(CHANGES)]
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    hours = ((start + timedelta(days=2)).astimezone(UTC) - start.astimezone(UTC)) // HOUR
    world = World(polar_server, seed, hours, start=start.astimezone(UTC))
    span = {"start": world.start, "end": world.end, "destination": str(tmp_path / "lake")}
    PolarExportEventsOperator(task_id="export", requests_per_minute=600_000, **span).execute({})
    for options in ({}, {"interval": "day", "timezone": zone}, {"destination": span["destination"]}):
        result, lines = verify(world, tmp_path, by="customer", **options)
        assert lines == []
        assert result["equal"]
        assert result["events"] == polar_server.count()
        assert (result["meters"], result["customers"]) == (len(RULES), len(KNOWN + UNKNOWN))


def test_a_week_takes_one_request_a_meter_besides_the_pages_of_the_list(
    polar_server: LocalPolar, tmp_path: Path
) -> None:
    world = World(polar_server, 17, 7 * 24)
    result, _ = verify(world, tmp_path, sample=0)
    assert result["equal"]
    kinds = Counter(record.path.rstrip("/").rpartition("/")[2] for record in polar_server.requests)
    pages = -(-result["events"] // 100)
    # A slice ends with a page that is not full.
    assert pages <= kinds.pop("events") <= 1.15 * pages + 1
    assert kinds == {"meters": 1, "quantities": len(RULES)}
