"""From what explains a difference to the lines of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_provider_polar.engine.metering.quantities import Customer
from airflow_provider_polar.engine.verifying.differences import Kind, UsageDifference, customer_text
from airflow_provider_polar.engine.verifying.entries import Entry
from airflow_provider_polar.engine.verifying.events import Case

_PERHAPS = 100
"""Events that are named at most where it is one of them."""


def lines_of(case: Case) -> Iterator[UsageDifference]:
    """A line for each kind of difference that a case is."""
    culprits = case.culprits
    if culprits.absent:
        yield _line(case, Kind.NOT_METERED, culprits.absent)
    if culprits.twice:
        # Where another event may have the same value of the key, it may be that one, not listed.
        yield _line(case, Kind.METERED_TWICE, culprits.twice, certain=_tells_each(case))
    for what, pairs in (("metered", case.moved), ("listed", case.received)):
        for other in dict.fromkeys(customer for _, customer in pairs):
            entries = [entry for entry, customer in pairs if customer == other]
            if case.difference.customer is not None:
                yield _line(case, Kind.OTHER_CUSTOMER, entries, certain=case.sure, other=other, note=_for(what, other))
    if case.partner is not None:
        what = "metered" if culprits.perhaps else "listed"
        other = case.partner.difference.customer
        entries = (culprits.perhaps or case.partner.culprits.perhaps)[:_PERHAPS]
        if case.difference.customer is not None:
            yield _line(case, Kind.OTHER_CUSTOMER, entries, certain=False, other=other, note=_for(what, other))
    elif case.rest:
        yield _rest(case)


def _rest(case: Case) -> UsageDifference:
    """The line of what no event explains."""
    function, rest = case.difference.meter.aggregation.function, case.rest
    if case.difference.customer is None:
        return _line(case, Kind.UNEXPLAINED)
    if case.culprits.perhaps:
        return _line(case, Kind.NOT_METERED, case.culprits.perhaps[:_PERHAPS], certain=False)
    if not case.entries or (rest < 0 if function == "min" else rest > 0 and function != "avg"):
        return _line(case, Kind.NOT_LISTED, certain=not case.entries or _tells_each(case))
    if function in ("count", "sum"):
        return _line(case, Kind.NOT_METERED, certain=False)
    return _line(case, Kind.DIFFERENT, certain=False)


def _tells_each(case: Case) -> bool:
    texts = {entry.texts.get(case.key) for entry in case.entries} if case.key is not None else {None}
    return None not in texts and len(texts) == len(case.entries)


def _for(what: str, customer: Customer | None) -> str:
    whom = customer_text(customer) if customer else "a customer that has no events in the window"
    return f"{what} for {whom}"


def _line(
    case: Case,
    kind: Kind,
    entries: Sequence[Entry] = (),
    *,
    certain: bool = True,
    other: Customer | None = None,
    note: str = "",
) -> UsageDifference:
    one = case.difference
    return UsageDifference(
        kind=kind,
        meter=one.meter,
        bucket=one.bucket,
        customer=one.customer,
        events=one.events,
        expected=one.ours,
        metered=one.polar,
        event_ids=tuple(entry.id for entry in entries),
        certain=certain,
        other=other,
        note=note,
    )
