"""Events that are listed for one customer and metered for another one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from airflow_provider_polar.engine.metering.aggregation import Aggregation
from airflow_provider_polar.engine.verifying.entries import Entry, tally_of
from airflow_provider_polar.engine.verifying.events import Case, EventSearch


def find_moved(cases: Sequence[Case], search: EventSearch) -> None:
    """Moves events from the customers who lack them in the meter to those who have more than is listed for them.

    Only within one bucket of a meter. Where a metadata key tells the event, Polar says whose it is in the meter; else
    the quantities do, and the case is not sure.
    """
    ordered = sorted(cases, key=_place)
    for _, group in groupby(ordered, key=_place):
        together = list(group)
        for giver in together:
            for entry in list(giver.culprits.absent):
                others = (one for one in together if one is not giver and one.rest)
                if any(_is_metered_for(entry, giver, one, search) for one in others):
                    giver.culprits.absent.remove(entry)
                elif _is_metered_for_a_stranger(entry, giver, search):
                    _move(entry, giver, next((one for one in together if one.difference.customer is None), None))
                    giver.culprits.absent.remove(entry)
        _pair_the_rest(together)


def _move(entry: Entry, giver: Case, receiver: Case | None) -> None:
    giver.moved.append((entry, None if receiver is None else receiver.difference.customer))
    if receiver is not None:
        receiver.received.append((entry, giver.difference.customer))


def _place(case: Case) -> tuple[str, str]:
    return case.difference.meter.id, case.difference.bucket.isoformat()


def _is_metered_for(entry: Entry, giver: Case, receiver: Case, search: EventSearch) -> bool:
    one, aggregation = receiver.difference, receiver.difference.meter.aggregation
    got = [other for other, _ in receiver.received]
    if giver.key is not None and giver.key in entry.texts:
        if one.customer is None:
            return False
        polar = search.quantity(one, one.customer, giver.key, [entry])
        alike = [other for other in (*receiver.entries, *got) if other.texts.get(giver.key) == entry.texts[giver.key]]
        if not _shows(entry, [*alike, entry], polar, aggregation):
            return False
    elif aggregation.additive:
        if abs(entry.value - receiver.rest) > giver.difference.tolerance + receiver.difference.tolerance:
            return False
        giver.sure = receiver.sure = False
    elif tally_of(aggregation, [*receiver.entries, *got, entry]).agrees_with(one.polar):
        giver.sure = receiver.sure = False
    else:
        return False
    _move(entry, giver, receiver)
    return True


def _is_metered_for_a_stranger(entry: Entry, giver: Case, search: EventSearch) -> bool:
    """Whether the meter has the event all the same, of a customer that is not known here."""
    one = giver.difference
    if one.customer is None or giver.key is None or giver.key not in entry.texts:
        return False
    polar = search.quantity(one, None, giver.key, [entry])
    # Others' listed events may have the same value of the key.
    return _shows(entry, search.listed_alike(one, giver.key, entry), polar, one.meter.aggregation)


def _shows(entry: Entry, entries: Sequence[Entry], polar: float, aggregation: Aggregation) -> bool:
    """Whether a quantity is that of some events, and without one of them would not be."""
    others = [other for other in entries if other.id != entry.id]
    return tally_of(aggregation, entries).agrees_with(polar) and not tally_of(aggregation, others).agrees_with(polar)


def _pair_the_rest(cases: Sequence[Case]) -> None:
    """Pairs cases of which one lacks, by the quantity, what the other one has more, where no event can be told."""
    for giver in cases:
        if not (giver.culprits.perhaps and giver.difference.meter.aggregation.additive):
            continue
        for receiver in cases:
            fits = abs(giver.rest + receiver.rest) <= giver.difference.tolerance + receiver.difference.tolerance
            if giver.rest < 0 < receiver.rest and fits and receiver.partner is None:
                giver.partner, receiver.partner = receiver, giver
                break
