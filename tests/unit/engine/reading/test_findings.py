"""What was found of a query, and what is still missing of it."""

from __future__ import annotations

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.reading.findings import Budget, Found
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.reading.reports import NOT_GIVEN
from airflow_provider_polar.engine.reading.streaming import WindowStream
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.listing import Client
from tests.unit.engine.reading.index import DAY, Index, Indexed, moment

QUERY = Query.of(EventWindow(DAY, moment(1_000)), EventFilters())
ROWS = [Indexed(n, n * 100).row() for n in range(10)]


def test_rows_given_earlier_are_so_much_less_missing() -> None:
    found = Found(ROWS[:4]).lacking(QUERY, 10, NOT_GIVEN)
    assert [(lack.counted, lack.given, lack.lost) for lack in found.missing] == [(10, 4, 6)]
    found.add_known(ROWS[:6])
    assert (found.given, [(lack.given, lack.lost) for lack in found.missing]) == (6, [(6, 4)])
    found.add_known(ROWS)
    assert (found.given, found.missing) == (10, [])
    found.add_known([Indexed(99, 5_000).row()])
    assert found.missing == []


def test_nothing_is_lacking_where_as_much_is_given_as_is_counted() -> None:
    assert Found(ROWS).lacking(QUERY, 10, NOT_GIVEN).missing == []
    assert Found([*ROWS, ROWS[0]]).given == 11
    assert Found(ROWS[:3]).repeating(5).given == 5
    part = Query.of(EventWindow(DAY, moment(300)), EventFilters())
    assert Found([*ROWS, ROWS[0]]).within(part).given == 4


def test_a_part_of_a_budget_draws_on_the_whole() -> None:
    whole = Budget(10)
    first, second = Budget(4, whole), Budget(8, whole)
    for _ in range(4):
        first.spend()
    assert (first.left, second.left, whole.left, whole.spent) == (0, 6, 6, 4)
    second.confirm(3)
    assert (whole.confirmed, Budget(1, whole).confirmed, first.confirmed) == (3, 3, 0)


@pytest.mark.parametrize("blocks", [40])
def test_a_stream_takes_the_rest_as_one_where_slices_turn_out_far_too_small(blocks: int) -> None:
    """Each slice has twenty events of which one is given."""
    index = Index([Indexed(n, n * 1_000, given=n % 21 == 0) for n in range(21 * blocks)])
    streamed = WindowStream(EventWindow(DAY, moment(86_400_000)), EventFilters(), slice_rows=20)
    slices = 0
    while not streamed.ended:
        drive(Client(index), streamed.read_on())  # type: ignore[arg-type]
        slices += 1
    assert (streamed.rows, sum(lack.lost for lack in streamed.missing)) == (blocks, 20 * blocks)
    assert slices < 0.8 * blocks
