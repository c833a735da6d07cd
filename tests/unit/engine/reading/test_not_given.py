"""Events that Polar counts and never gives, in whole pages: all others come, and the report says what is missing."""

from __future__ import annotations

import pytest

from airflow_provider_polar.engine.reading.reports import NOT_GIVEN
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.reading.index import DAY, Index, Indexed, moment, read

WINDOW = EventWindow(DAY, moment(86_400_000))


def events(first: int, count: int, apart: int = 10, **more) -> list[Indexed]:  # type: ignore[no-untyped-def]
    return [Indexed(number, number * apart, {"n": number}, **more) for number in range(first, first + count)]


@pytest.mark.parametrize("given_before", [0, 1, 130])
@pytest.mark.parametrize("hidden", [99, 100, 101, 150, 250, 700])
@pytest.mark.parametrize("given_after", [0, 1, 30, 250])
def test_a_run_of_them_of_any_length(given_before: int, hidden: int, given_after: int) -> None:
    index = Index(
        [
            *events(0, given_before),
            *events(1_000, hidden, given=False),
            *events(2_000, given_after),
        ]
    )
    rows, report = read(WINDOW, index)
    assert {row.id for row in rows} == index.given
    assert (report.rows, report.lost, report.counted) == (given_before + given_after, hidden, index.places)
    assert not report.proved
    assert {lack.reason for lack in report.missing} == {NOT_GIVEN}
    assert report.requests == index.requests < 600


@pytest.mark.parametrize("given", [1, 30, 100])
def test_rows_between_two_runs_of_them_are_found(given: int) -> None:
    index = Index([*events(0, 150, given=False), *events(150, given), *events(1_000, 220, given=False)])
    rows, report = read(WINDOW, index)
    assert {row.id for row in rows} == index.given
    assert (report.rows, report.lost) == (given, 370)


@pytest.mark.parametrize("hidden", [1, 40, 120, 300])
@pytest.mark.parametrize("given", [30, 80, 130])
def test_all_of_one_name_in_a_crowded_millisecond(given: int, hidden: int) -> None:
    """The parts of a split without a single row are as much missing as their count says."""
    crowd = [Indexed(n, 5, {}, name="ac"[n % 2]) for n in range(2 * given)]
    index = Index([*crowd, *(Indexed(1_000 + n, 5, {}, name="b", given=False) for n in range(hidden))])
    rows, report = read(WINDOW, index)
    assert {row.id for row in rows} <= index.given
    assert report.rows + report.lost + report.repeated == index.places
    assert not report.proved
    if given <= 80:
        assert (report.rows, report.lost) == (2 * given, hidden)
