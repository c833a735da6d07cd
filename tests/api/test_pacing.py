"""The budget is spread evenly and nearly used up; a 429 stops everybody."""

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.api.pacing import Pacer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def send(pacer: Pacer, clock: Clock) -> float:
    """Waits for a moment as a client does, and says when it sent."""
    moment = pacer.reserve()
    while (delay := pacer.delay(moment)) != 0:
        if delay is None:
            moment = pacer.reserve()
        else:
            clock.now += delay
    return clock.now


@given(st.integers(10, 3000), st.lists(st.floats(0, 0.5), min_size=200, max_size=200))
def test_no_minute_holds_more_than_the_budget(budget, pauses):
    clock = Clock()
    pacer = Pacer(budget, clock=clock)
    sent = []
    for pause in pauses:
        sent.append(send(pacer, clock))
        clock.now += pause
    for i, first in enumerate(sent):
        assert sum(1 for moment in sent[i:] if moment < first + 60) <= budget + 1


def test_a_busy_caller_uses_at_least_95_percent():
    clock = Clock()
    pacer = Pacer(500, clock=clock)
    sent = [send(pacer, clock) for _ in range(1500)]
    assert 500 * 0.95 <= len(sent) / (sent[-1] - sent[0]) * 60 <= 500


def test_a_429_stops_everybody_and_slows_down():
    clock = Clock()
    pacer = Pacer(600, clock=clock)
    send(pacer, clock)
    waiting = pacer.reserve()
    pacer.throttled(60)
    assert pacer.delay(waiting) is None
    before, fast = clock.now, pacer.interval
    Pacer(600)
    assert send(pacer, clock) >= before + 60
    assert pacer.interval > 60 / 600
    for _ in range(100):
        pacer.succeeded()
    assert pacer.interval < fast


def test_without_a_budget_nothing_waits_but_a_429_does():
    clock = Clock()
    pacer = Pacer(None, clock=clock)
    assert send(pacer, clock) == send(pacer, clock) == 1000
    pacer.throttled(1)
    assert send(pacer, clock) >= 1001
