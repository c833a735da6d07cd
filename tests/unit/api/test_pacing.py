"""A tenth of the budget goes at once, the rest is spread evenly, no minute holds more; a 429 stops everybody."""

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.pacing import Gate, Pacer, shared_pacer


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


def most_in_a_minute(sent: list[float]) -> int:
    most = first = 0
    for last, moment in enumerate(sent):
        while moment - sent[first] >= 60:
            first += 1
        most = max(most, last - first + 1)
    return most


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 400),
    st.lists(
        st.one_of(st.floats(0, 0.5), st.floats(0, 90), st.sampled_from([0.0, 0.0, 0.0, 1.0])), min_size=1, max_size=60
    ),
)
def test_no_minute_holds_more_than_the_budget(budget, pauses):
    clock = Clock()
    pacer = Pacer(budget, clock=clock)
    sent = []
    for n in range(3 * budget + 60):
        sent.append(send(pacer, clock))
        clock.now += pauses[n % len(pauses)]
    assert most_in_a_minute(sent) <= budget


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 600), st.lists(st.floats(0, 0.2), min_size=4, max_size=4))
def test_callers_side_by_side_stay_within_it_together(budget, works):
    clock = Clock()
    pacer = Pacer(budget, clock=clock)
    sent = []
    due = [clock.now] * len(works)
    for _ in range(2 * budget + 20):
        caller = due.index(min(due))
        clock.now = max(clock.now, due[caller])
        moment = pacer.reserve()
        sent.append(moment)
        due[caller] = moment + works[caller]
    assert most_in_a_minute(sorted(sent)) <= budget


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1000))
def test_a_busy_caller_uses_at_least_97_percent(budget):
    clock = Clock()
    pacer = Pacer(budget, clock=clock)
    sent = [send(pacer, clock) for _ in range(budget * 4)]
    assert len(sent) / (sent[-1] - sent[0]) * 60 >= budget * 0.97
    long_after = sent[budget:]
    assert len(long_after) / (long_after[-1] - long_after[0]) * 60 >= budget * 0.97
    assert most_in_a_minute(sent) <= budget


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 2000))
def test_a_tenth_of_the_budget_waits_for_nothing(budget):
    clock = Clock()
    pacer = Pacer(budget, clock=clock)
    sent = [send(pacer, clock) for _ in range(budget // 10 + 3)]
    assert set(sent[: budget // 10]) == {1000.0}
    # The rest is even from there on: nothing has to be paid back by a pause.
    assert 0 < sent[-1] - 1000 <= 3 * pacer.interval * 1.001


def test_a_small_or_broken_budget_is_kept():
    clock = Clock()
    pacer = Pacer(0.5, clock=clock)
    first, second = send(pacer, clock), send(pacer, clock)
    assert second - first >= 120


def test_a_429_stops_everybody_and_slows_down():
    clock = Clock()
    pacer = Pacer(600, clock=clock)
    for _ in range(60):
        send(pacer, clock)
    waiting = pacer.reserve()
    pacer.throttled(60)
    assert pacer.delay(waiting) is None
    before, fast = clock.now, pacer.interval
    assert send(pacer, clock) >= before + 60
    assert send(pacer, clock) > before + 60
    assert pacer.interval > 60 / 600
    for _ in range(100):
        pacer.succeeded()
    assert pacer.interval < fast


def test_the_responses_to_what_was_in_flight_slow_down_once():
    clock = Clock()
    one, eight = Pacer(600, clock=clock), Pacer(600, clock=clock)
    one.throttled(60)
    for _ in range(8):
        eight.throttled(60)
    assert one.interval == eight.interval


def test_a_429_closes_for_all_budgets_of_an_account():
    clock = Clock()
    gate = Gate()
    one, two = Pacer(600, clock=clock, gate=gate), Pacer(None, clock=clock, gate=gate)
    waiting = two.reserve()
    one.throttled(60)
    assert two.delay(waiting) is None
    assert send(two, clock) == 1060


def test_an_account_has_one_pacer_for_a_budget():
    assert shared_pacer("a", 60) is shared_pacer("a", 60)
    assert len({id(shared_pacer(*key)) for key in (("a", 60), ("a", 70), ("b", 60))}) == 3


def test_without_a_budget_nothing_waits_but_a_429_does():
    clock = Clock()
    pacer = Pacer(None, clock=clock)
    assert send(pacer, clock) == send(pacer, clock) == 1000
    pacer.throttled(1)
    assert send(pacer, clock) >= 1001


def test_the_load_is_what_a_minute_takes_of_the_budget():
    clock = Clock()
    pacer = Pacer(100, clock=clock)
    for _ in range(40):
        send(pacer, clock)
    assert pacer.load == 0.4
    for _ in range(200):
        pacer.reserve()
    assert pacer.load > 2
    clock.now += 300
    assert pacer.load == 0
    assert Pacer(None).load == 0


def test_a_stretch_of_long_waits_is_told_once():
    pacer = Pacer(60)
    told = [pacer.is_new_long_wait(delay) for delay in (1, 9, 11, 20, 30, 2, 40)]
    assert told == [False, False, True, False, False, False, True]


def test_a_budget_without_a_burst_is_even_from_the_first_request() -> None:
    """Short tasks in processes of their own that divide one budget would together exceed it, each with its burst."""
    pacer = Pacer(600, at_once=0.0, clock=lambda: 1000.0)
    assert [round(pacer.reserve() - 1000.0, 3) for _ in range(4)] == [0.0, 0.0, 0.101, 0.202]
