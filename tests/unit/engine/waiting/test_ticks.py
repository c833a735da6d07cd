"""Loops of one interval look at the same moments."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_polar.engine.waiting.cadence import Cadence

seconds = st.floats(0.01, 1e5)


@given(seconds, seconds, st.floats(0, 1e7), st.one_of(st.none(), seconds))
def test_a_pause_for_the_common_tick_is_never_none_and_never_much_longer(
    interval: float, pause: float, now: float, longest: float | None
) -> None:
    """A pause of nothing would be a loop that never rests."""
    aligned = Cadence(interval, longest=longest).to_tick(pause, now)
    assert 0.47 * pause <= aligned <= pause + interval / 2 + 1e-6 * now


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 4)), min_size=2, max_size=9))
@example([(0.0, 1), *[(second / 10, 1) for second in range(490, 560)]])
def test_loops_that_started_at_different_times_look_at_the_same_moments(loops: list[tuple[float, int]]) -> None:
    """Whatever they started at, and although every pause has jitter."""
    moments = set()
    for started, polls in loops:
        cadence, now = Cadence(60), 1_000_000.0 + started
        for _ in range(polls):
            now += cadence.to_tick(cadence.after_poll(), now) + 5.5  # a look gathers for 5 s, and takes some time
        moments.add(round((now - 5.5) % 60, 3) % 60)
    assert len(moments) == 1
