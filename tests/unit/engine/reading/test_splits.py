"""How a crowded millisecond is split: every event in exactly one part, by whatever tells the events apart."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.reading.splits import MOST_CHARACTERS, Split, alike, find_splits, telling
from tests.unit.engine.reading.index import Indexed

ANY = EventFilters()


def crowd(count: int, **of: Any) -> list[Indexed]:
    """Events of one millisecond; what is callable is called with the number of each."""
    return [
        Indexed(n, 5, **{key: value(n) if callable(value) else value for key, value in of.items()})
        for n in range(count)
    ]


def metadata(**of: Any) -> Any:
    return lambda n: {key: value(n) for key, value in of.items() if value(n) is not None}


def customers(*ids: tuple[str | None, str | None], each: int = 1) -> list[EventRow]:
    """Rows by (customer_id, external_customer_id)."""
    rows = []
    for n, (own, external) in enumerate(pair for pair in ids for _ in range(each)):
        changed = {"id": f"{n}", "customer_id": own, "external_customer_id": external}
        same = crowd(1)[0].row().values
        rows.append(EventRow(same | {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in changed.items()}))
    return rows


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def splits_of(events: list[Indexed], filters: EventFilters = ANY) -> dict[str, Split]:
    return {split.key: split for split in find_splits([event.row() for event in events], len(events), filters)}


def parts_of(split: Split, events: list[Indexed]) -> list[int]:
    """How many events each part selects; every event is in exactly one."""
    selected = [[event for event in events if event.matches(part.filters.to_params())] for part in split.parts]
    assert Counter(event.id for part in selected for event in part) == Counter(event.id for event in events)
    return [len(part) for part in selected]


_chance = random.Random(9)
RANDOM = [_chance.randrange(10**6) for _ in range(400)]


@pytest.mark.parametrize(
    ("key", "of", "least"),
    [
        ("name", {"name": lambda n: "ab"[n % 2]}, 3),
        ("name", {"name": lambda n: f"event.{RANDOM[n] % 97}"}, 6),
        ("n", {"metadata": metadata(n=lambda n: n)}, 6),
        ("n", {"metadata": metadata(n=lambda n: RANDOM[n])}, 6),
        ("n", {"metadata": metadata(n=lambda n: n - 200)}, 6),
        ("n", {"metadata": metadata(n=lambda n: None if n % 2 else n - 200)}, 3),
        ("n", {"metadata": metadata(n=lambda n: n / 7)}, 6),
        ("n", {"metadata": metadata(n=lambda n: 2**31 - 200 + n)}, 3),
        ("t", {"metadata": metadata(t=lambda n: f"{RANDOM[n]:x}")}, 6),
        ("t", {"metadata": metadata(t=lambda n: None if n % 2 else f"{n}")}, 3),
        ("t", {"metadata": metadata(t=lambda n: "z" * (n + 1))}, 6),
        ("b", {"metadata": metadata(b=lambda n: n % 3 == 0)}, 2),
        ("b", {"metadata": metadata(b=lambda n: True if n % 2 else None)}, 2),
        ("external_customer_id", {"customer": lambda n: f"c{n % 20}"}, 6),
    ],
)
def test_every_event_is_in_one_part(key: str, of: dict[str, Any], least: int) -> None:
    events = crowd(400, **of)
    split = splits_of(events)[key]
    sizes = parts_of(split, events)
    assert len(sizes) >= least
    assert max(sizes) <= 0.9 * len(events)
    assert [part.expected for part in split.parts] == pytest.approx(sizes)
    assert split.largest == max(sizes)
    assert split.cost == pytest.approx(sum(1 if size <= 85 else 1 + 1.2 * size / 70 for size in sizes))
    assert all(part.words.keys() == {key} for part in split.parts)


def test_what_a_sample_lacks_falls_into_a_part_too() -> None:
    sample = crowd(60, name=lambda n: "ab"[n % 2], metadata=metadata(n=lambda n: n, b=lambda n: n % 2 == 0))
    rest = crowd(60, name=lambda n: f"other {n}", metadata=metadata(n=lambda n: n * 100 - 900, t=lambda n: "x"))
    for split in find_splits([event.row() for event in sample], 240, ANY):
        parts_of(split, sample + rest)
        assert sum(part.expected for part in split.parts) == pytest.approx(240)


def test_the_cheapest_comes_first() -> None:
    events = crowd(400, name=lambda n: "ab"[n % 2], metadata=metadata(n=lambda n: n, b=lambda n: n % 40 == 0))
    splits = find_splits([event.row() for event in events], 400, ANY)
    assert [split.cost for split in splits] == sorted(split.cost for split in splits)
    assert splits[0].key == "n"
    assert "b" not in {split.key for split in splits}, "a part of nearly all divides nothing"


@pytest.mark.parametrize(
    "of",
    [
        {},
        {"metadata": {"n": 1, "t": "x", "b": True}},
        {"metadata": metadata(n=lambda n: 2**40 + n)},
        {"metadata": metadata(n=lambda n: float("inf") if n % 2 else float("-inf"))},
        {"metadata": metadata(timestamp=lambda n: n, name=lambda n: f"{n}", source=lambda n: n)},
        {"metadata": lambda n: {"": n}},
        {"metadata": lambda n: {"list": [n]}},
        {"metadata": metadata(n=lambda n: n / 1000)},
        {"customer": lambda n: f"c{n}"},
    ],
)
def test_there_is_none_where_nothing_tells_events_apart(of: dict[str, Any]) -> None:
    assert not splits_of(crowd(100, **of))


def test_metadata_inside_metadata_is_reached_by_its_path() -> None:
    rows = [event.row() for event in crowd(200, metadata=metadata(_cost=lambda n: {"amount": n, "currency": "usd"}))]
    (split,) = find_splits(rows, 200, ANY)
    assert split.key == "_cost.amount"


def test_parts_keep_the_filters_so_far() -> None:
    filters = EventFilters(source="user", metadata={"plan": "pro"})
    for split in splits_of(crowd(300, metadata=metadata(n=lambda n: n)), filters).values():
        assert all(
            (part.filters.source, part.filters.metadata) == (filters.source, filters.metadata) for part in split.parts
        )


class TestCustomers:
    @pytest.mark.parametrize("field", ["customer_id", "external_customer_id"])
    def test_lists_that_hold_each_once(self, field: str) -> None:
        pairs = [(uuid(n), None) if field == "customer_id" else (None, f"c{n}") for n in range(12)]
        (split,) = find_splits(customers(*pairs, each=30), 720, ANY)
        assert split.key == field
        lists = [getattr(part.filters, field) for part in split.parts]
        assert sorted(one for some in lists for one in some) == sorted(one or other for one, other in pairs)
        assert [part.expected for part in split.parts] == pytest.approx([60 * len(some) for some in lists])
        assert all(part.expected <= 70 for part in split.parts)
        assert split.parts[0].words == {field: f"in {', '.join(lists[0])}"}

    def test_no_list_is_too_long_for_an_address(self) -> None:
        rows = customers(*[(None, f"c{n:03}") for n in range(120)], each=2)
        (split,) = find_splits(rows, 60, ANY)
        assert [len(part.filters.external_customer_id or ()) for part in split.parts] == [50, 50, 20]

    def test_the_filters_customers_are_all_there_are(self) -> None:
        rows = customers((None, "a"), (None, "b"), each=40)
        given = EventFilters(external_customer_id=["a", "b", "c"])
        (split,) = find_splits(rows, 160, given)
        lists = [part.filters.external_customer_id for part in split.parts]
        assert sorted(one for some in lists for one in some or ()) == ["a", "b", "c"]

    def test_the_two_filters_are_never_joined(self) -> None:
        pairs = [(uuid(n), f"c{n}") for n in range(8)]
        rows = customers(*pairs, each=30)
        assert {split.key for split in find_splits(rows, 240, ANY)} == {"customer_id", "external_customer_id"}
        for at, field in enumerate(("customer_id", "external_customer_id")):
            given = EventFilters(**{field: [pair[at] for pair in pairs]})
            assert {split.key for split in find_splits(rows, 240, given)} == {field}

    def test_none_where_a_row_has_no_customer_or_the_sample_shows_too_few_of_them(self) -> None:
        assert not find_splits(customers((None, None), *[(None, f"c{n}") for n in range(8)], each=30), 270, ANY)
        many, single = [(None, f"c{n}") for n in range(8)] * 30, [(None, f"once {n}") for n in range(13)]
        assert not find_splits(customers(*many, *single), 500, ANY)
        assert find_splits(customers(*many, *single[:12]), 500, ANY)


class TestTelling:
    def rows(self, count: int, **of: Any) -> list[EventRow]:
        return [event.row() for event in crowd(count, **of)]

    def test_by_metadata_or_by_customers(self) -> None:
        filters = telling(self.rows(30, metadata=metadata(n=lambda n: n, same=lambda n: "x")), ANY)
        assert filters is not None
        assert filters.external_customer_id is None
        assert filters.metadata is not None
        assert filters.metadata.keys() == {"n"}
        assert sorted(map(int, filters.metadata["n"])) == list(range(30))  # type: ignore[arg-type]
        filters = telling(self.rows(30, customer=lambda n: f"c{n:02}"), ANY)
        assert filters is not None
        assert filters.metadata is None
        assert filters.external_customer_id == [f"c{n:02}" for n in range(30)]

    def test_by_several_that_are_enough_together(self) -> None:
        rows = self.rows(30, metadata=metadata(a=lambda n: n / 7, b=lambda n: f"{n % 28}", c=lambda n: n % 27))
        filters = telling(rows, ANY)
        assert filters is not None
        assert filters.metadata is not None
        assert filters.metadata.keys() == {"b", "c"}

    @pytest.mark.parametrize(
        "value", [lambda n: n / 2 + 0.1, lambda n: bool(n % 2), lambda n: "" if n == 3 else n, lambda n: n % 15]
    )
    def test_not_by_what_does_not_tell(self, value: Any) -> None:
        assert telling(self.rows(30, metadata=metadata(n=value)), ANY) is None

    def test_not_by_what_is_filtered_already(self) -> None:
        rows = self.rows(30, metadata=metadata(n=lambda n: n), customer=lambda n: f"c{n}")
        one = telling(rows, EventFilters(metadata={"n": [str(n) for n in range(99)]}))
        assert one is not None
        assert one.external_customer_id is not None
        for field in ("customer_id", "external_customer_id"):
            other = telling(rows, EventFilters(**{field: [uuid(1)]}))
            assert other is not None
            assert getattr(other, field) == [uuid(1)]
            assert other.metadata is not None

    def test_not_by_what_is_too_long_for_an_address(self) -> None:
        def told(length: int) -> EventFilters | None:
            return telling(self.rows(100, metadata=metadata(t=lambda n: f"{n:03}".rjust(length, "x"))), ANY)

        assert told(MOST_CHARACTERS // 100 - len("metadata%5Bt%5D=&")) is not None
        assert told(MOST_CHARACTERS // 100) is None


def test_alike_are_events_with_the_same_values() -> None:
    event = Indexed(1, 5, {"n": 7, "t": "x", "b": True, "half": 0.5, "big": 2**40, "inner": {"m": 1}}, "paid", "c9")
    others = [
        Indexed(2, 5, event.metadata | changed, name, "c9")
        for changed, name in [({"n": 8}, "paid"), ({"t": "y"}, "paid"), ({}, "other")]
    ]
    params = dict(alike(event.row(), ANY).to_params())
    clauses = {clause["property"]: clause["value"] for clause in json.loads(params["filter"])["clauses"]}
    assert clauses == {"name": "paid", "source": "user", "n": 7, "t": "x", "b": "true", "inner.m": 1}
    assert params["external_customer_id"] == "c9"
    del event.metadata["inner"]
    plain = alike(event.row(), ANY).to_params()
    assert event.matches(plain)
    assert not any(other.matches(plain) for other in others)
    assert alike(event.row(), EventFilters(customer_id=[uuid(1)])).external_customer_id is None
