"""The six functions by bucket and customer, what they leave out, and the comparison with Polar's quantities."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from airflow_provider_polar.engine.metering.quantities import Customer, compare, customer_of, evaluate
from airflow_provider_polar.engine.window import aware
from tests.unit.engine.metering.meters import DAY, carrying, clause, event, meter, quantities

HOUR = aware("2026-11-02T14:00Z", "the hour")


@pytest.mark.parametrize(
    ("function", "values", "quantity"),
    [
        ("count", [1, "2", True, None], 4),
        ("sum", [1, 2.5, True, "3", None, {"a": 1}, ["b"]], 3.5),
        ("avg", [1, 2, True, "100"], 1.5),
        ("max", [-3, -2, True, "9"], -2),
        ("min", [3, 2, False, "-9"], 2),
        ("unique", [1, 1.0, "1", True, None, {"a": 1, "b": 2}, {"b": 2, "a": 1.0}], 5),
    ],
)
def test_functions(function, values, quantity):
    its = quantities(meter(function), [*carrying(*values), event("2026-11-02T15:00:00Z")])
    assert its.tally(HOUR).quantity == its.total().quantity - (function == "count") == quantity
    assert its.tally(aware("2026-11-02T13:00Z", "an empty hour")).quantity == 0


def test_fields_instead_of_metadata():
    it = event(metadata={"name": "of the metadata"})
    assert quantities(meter("max", over="timestamp"), [it]).total().quantity == HOUR.timestamp()
    assert quantities(meter("sum", over="name"), [it]).total().events == 0
    # Polar looks for distinct values in the metadata only.
    assert quantities(meter("unique", over="name"), [it]).total().quantity == 1
    assert quantities(meter("unique", over="timestamp"), [it]).total().quantity == 0
    assert quantities(meter("sum", over="_cost.amount"), carrying(1)).total().events == 0
    cost = event(metadata={"_cost": {"amount": "12.5", "currency": "usd"}})
    assert quantities(meter("sum", over="_cost.amount"), [cost]).total().quantity == 12.5


def test_what_a_function_leaves_out_is_a_finding_and_no_difference():
    its = quantities(meter("sum", clause("name", "eq", "api.call")), [
        *carrying(1, *[True] * 24, "2", None, {"a": 1}), event(), event(name="of no concern")
    ])  # fmt: skip
    assert its.findings() == [
        "24 events carry a boolean `units`: the meter bills none of them",
        "1 event carries a text `units`: the meter bills it not",
        "1 event carries null as `units`: the meter bills it not",
        "1 event carries an object or a list as `units`: the meter bills it not",
        "1 event carries no `units`: the meter bills it not",
    ]
    assert compare(its, dict.fromkeys(DAY, 0.0) | {HOUR: 1.0}) == []
    assert quantities(meter("unique"), [*carrying(True, None), event()]).findings() == [
        "1 event carries no `units`: the meter bills it not"
    ]
    assert quantities(meter("count"), [event()]).findings() == []


def test_differences_by_bucket():
    its = quantities(
        meter("count"), [event(), event(), event("2026-11-02T23:59:59.999999Z"), event("2026-11-03T00:00Z")]
    )
    polar = dict.fromkeys(DAY, 0.0) | {HOUR: 1.0, aware("2026-11-02T23:00Z", "the last"): 1.0}
    [difference] = compare(its, polar)
    assert (difference.meter.name, difference.bucket, difference.customer) == ("API calls", HOUR, None)
    assert (difference.events, difference.ours, difference.polar) == (2, 2.0, 1.0)


def test_two_differences_that_cancel_out_show_by_customer():
    acme, other = {"external_customer_id": "acme"}, {"external_customer_id": "other"}
    [its] = evaluate([meter("count")], [event(**acme), event(**acme), event(**other)], DAY, by=customer_of)
    assert its.customers == {Customer(None, "acme"), Customer(None, "other")}
    assert compare(its, dict.fromkeys(DAY, 0.0) | {HOUR: 3.0}) == []
    polar = {"acme": 1.0, "other": 2.0, "a third": 0.0}
    found = [
        compare(its, dict.fromkeys(DAY, 0.0) | {HOUR: polar[name]}, customer=Customer(None, name)) for name in polar
    ]
    assert [[(it.customer.external_id, it.ours, it.polar) for it in one] for one in found] == [
        [("acme", 2.0, 1.0)],
        [("other", 1.0, 2.0)],
        [],
    ]


def test_one_customer_by_either_id():
    polar = {"id": "c-1", "external_id": "acme", "email": "not.kept@example.com"}
    one = customer_of(event(customer_id=None, external_customer_id="acme", customer=polar))
    assert one == customer_of(event(customer_id="c-1", external_customer_id=None, customer=polar))
    assert one == Customer("c-1", "acme")
    assert customer_of(event(customer=None, external_customer_id="new")) == Customer(None, "new")
    assert customer_of(event()) == Customer(None, None)


def test_customers_and_buckets_combine():
    chance = random.Random(1)
    events = [
        event(
            f"2026-11-02T{chance.randrange(24):02}:00:00Z", external_customer_id=str(n % 3), metadata={"units": n % 40}
        )
        for n in range(500)
    ]
    for function in ("count", "sum", "max", "min", "avg", "unique"):
        it = meter(function)
        [by_customer], all_of_them = evaluate([it], events, DAY, by=customer_of), quantities(it, events)
        assert compare(by_customer, {hour: all_of_them.tally(hour).quantity for hour in DAY}) == []
        adding_up = sum(all_of_them.tally(hour).quantity for hour in DAY) == all_of_them.total().quantity
        assert adding_up is it.aggregation.additive is (function in ("count", "sum"))


@pytest.mark.parametrize("function", ["sum", "avg"])
def test_the_order_of_adding_is_no_difference_and_a_cent_is(function):
    chance = random.Random(2)
    values = [round(chance.uniform(-1000, 1000), 2) for _ in range(20_000)]
    ours = quantities(meter(function), carrying(*values)).tally(HOUR)
    shuffled = quantities(meter(function), carrying(*sorted(values))).tally(HOUR)
    less = quantities(meter(function), carrying(*values[1:], values[0] - 0.01)).tally(HOUR)
    assert 0 < abs(ours.quantity - shuffled.quantity) <= ours.slack < abs(ours.quantity - less.quantity)


def test_sums_of_whole_numbers_are_compared_exactly():
    its = quantities(meter("sum"), carrying(*[10**9] * 1000, 1.0))
    assert its.tally(HOUR).slack == 0
    assert quantities(meter("sum"), carrying(2**53, 1)).tally(HOUR).slack > 0


def test_memory_does_not_grow_with_the_events():
    several = [meter(function) for function in ("count", "sum", "max", "min", "avg", "unique")]

    def peak(events: int) -> int:
        tracemalloc.start()
        evaluate(several, (event(metadata={"units": n % 50}) for n in range(events)), DAY)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(10_000) < peak(1_000) + 10_000
