"""The complete reader: forward by time, proved by the API's own counts. Decisions only, without I/O.

Polar's pages are no partition: events that share a millisecond across a page's edge come twice or not at all. So a
reading requests the first page only, keeps what lies before the last millisecond of it, and goes on from that
millisecond. The next response's count must then be the last one less what was kept. Where it is not, the stretch
between is read again, more finely split (:mod:`~airflow_provider_polar.engine.reading.discrepancies`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, RowPage, from_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.discrepancies import resolve, resolve_moment
from airflow_provider_polar.engine.reading.findings import Budget, Found
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.reading.reports import ARRIVING, NOT_EXAMINED, NOT_GIVEN, Discrepancy, SliceReport
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError

Sink = Callable[[list[EventRow], SliceReport], None]
"""Takes at least one row, in order of (timestamp, id), and the report on everything that was handed on so far, these
rows included, as if the slice ended with them: what follows can be read later as a slice of its own."""


def read_slice(
    window: EventWindow, filters: EventFilters, sink: Sink, page: RowPage | None = None
) -> Steps[SliceReport]:
    """Reads a slice and hands its rows on in their final order, (timestamp, id), each event once.

    Rows that were handed on are proved, or the report says where they are not.

    What is handed on holds every event that was listable when the reading began. One that arrives behind the
    reading is seen by a later count only: see :func:`~airflow_provider_polar.engine.reading.slices.find_changed`.

    :param page: the response to the first request, where it is in hand just now; it counts as one of the report's.
    :raises PolarIncompleteError: the server's bounds are not whole milliseconds, or it gives what was not requested;
        a retry does not help.
    """
    return (yield from _SliceReading(window, filters, sink, page).read())


_SPARE = 256
"""Requests that a slice may take beyond what its rows account for."""
_MOST_FOR_DISCREPANCIES = 10_000
_MOST_FOR_ONE = 16
"""Requests that one event counted twice, or not given, may take."""
_TOGETHER = 200
"""Rows that are kept back until a discrepancy among them is looked at: many are explained together."""
_SECOND = 1000


@dataclass(slots=True)
class _Pending:
    """Rows before the cursor that the next count is to prove.

    :param start: where they begin.
    :param end: where the rows end that no count of their own has proved.
    :param counted: what was counted from ``start``.
    :param rows: from ``start`` to ``end``.
    :param proved: from ``end`` to the cursor.
    :param proved_places: what is counted there.
    """

    start: int
    end: int
    counted: int
    rows: list[EventRow]
    proved: list[EventRow] = field(default_factory=list)
    proved_places: int = 0

    def excess(self, counted: int) -> int:
        """What is counted besides the rows, going by the count of what follows."""
        return self.counted - counted - self.proved_places - len(self.rows)

    def is_joined_by(self, counted: int, rows: Sequence[EventRow]) -> bool:
        """Whether the next page's rows join these: where more was counted than given."""
        return (
            self.excess(counted) > 0
            and not self.proved_places
            and len(self.rows) < _TOGETHER
            and any(row.ms != rows[0].ms for row in rows)
        )


def _second(ms: int) -> int:
    """The whole second that a millisecond lies in."""
    return ms // _SECOND * _SECOND


class _HandedOn:
    """What was handed on of a slice: the rows of its window in order, each once, and what is counted besides.

    :ivar is_exact: whether a row was given that a server would leave out which cuts the window's end to whole seconds.
    """

    def __init__(self, window: EventWindow, sink: Sink) -> None:
        self.window, self._sink = window, sink
        self.rows = self.requests = 0
        self._repeated = self._before = self._after = 0
        self.missing: list[Discrepancy] = []
        self.budget = Budget(0)
        self.is_self_proved = self.is_exact = False

    def report(self, window: EventWindow | None = None) -> SliceReport:
        """What was handed on, as if the slice were this window; by default it is the whole."""
        return SliceReport(
            window=window or self.window,
            rows=self.rows,
            repeated=self._repeated,
            missing=tuple(self.missing),
            before=self._before,
            after=self._after,
            requests=self.requests + self.budget.spent,
            self_proved=self.is_self_proved,
        )

    def add(self, rows: Iterable[EventRow], up_to: int) -> None:
        """Hands on rows that are complete up to a millisecond."""
        distinct: dict[str, EventRow] = {}
        for row in rows:
            if row.timestamp < self.window.start:
                self._before += 1
            elif row.timestamp >= self.window.end:
                self._after += 1
            elif row.id in distinct:
                self._repeated += 1
            else:
                distinct[row.id] = row
            self.is_exact = self.is_exact or row.ms >= _second(self.window.end_ms)
        self.rows += len(distinct)
        if distinct:
            end = self.window.end if up_to >= self.window.end_ms else from_ms(up_to)
            in_order = sorted(distinct.values(), key=lambda row: (row.timestamp, row.id))
            self._sink(in_order, self.report(EventWindow(self.window.start, end)))


class _SliceReading:
    def __init__(self, window: EventWindow, filters: EventFilters, sink: Sink, page: RowPage | None) -> None:
        self.whole = Query.of(window, filters)
        self.handed_on = _HandedOn(window, sink)
        self.in_hand = page
        self.cursor = self.whole.start
        self.pending: _Pending | None = None
        self.first_count: int | None = None
        self.pages = 0

    def read(self) -> Steps[SliceReport]:
        while self.cursor < self.whole.end:
            rest = self.whole.between(self.cursor, self.whole.end)
            page = yield from self._requested(rest)
            if page.total_count and not page.rows:
                # A page may come out short once.
                page = yield from self._requested(rest)
            self._look_at_bounds(page, rest)
            if self.first_count is None:
                # The work is bounded by what the first response counted.
                self.first_count = page.total_count
                self.handed_on.budget = Budget(min(2 * (_SPARE + page.total_count), _MOST_FOR_DISCREPANCIES))
            rows = page.rows
            complete = page.total_count <= len(rows)
            if complete or not (self.pending and self.pending.is_joined_by(page.total_count, rows)):
                yield from self._prove_pending(page.total_count)
            if complete:
                is_only = self.handed_on.requests == 1
                self.handed_on.is_self_proved = is_only and page.total_count == len(rows) < MAX_LIMIT
                self._hand_on(rows, rest.end)
                break
            self.pages += 1
            if self.pages > self._pages_allowed():
                yield from self._prove_pending(page.total_count)
                self.handed_on.missing.append(rest.discrepancy(page.total_count, 0, ARRIVING))
                return self.handed_on.report()
            yield from self._step(rest, rows, page.total_count)
        yield from self._look_at_the_end()
        return self.handed_on.report()

    def _requested(self, query: Query, *, page: int = 1) -> Steps[RowPage]:
        self.handed_on.requests += 1
        response, self.in_hand = self.in_hand, None
        return response or (yield query.request(page=page))

    def _step(self, rest: Query, rows: list[EventRow], counted: int) -> Steps[None]:
        """Goes as far forward as a page takes it."""
        if not rows:
            yield from self._over_rows_not_given(rest, counted)
            return
        last = max(row.ms for row in rows)
        kept = [row for row in rows if row.ms < last]
        if kept and self.pending is not None:
            self.pending.rows += kept
            self.pending.end = self.cursor = last
        elif kept:
            self.pending = _Pending(self.cursor, last, counted, kept)
            self.cursor = last
        else:
            # All of one moment, which may hold more than a page; nothing was given before it.
            moment = rest.between(last, last + 1)
            page = yield from self._requested(moment)
            budget = self._budget_for(min(page.total_count, counted))
            found = yield from resolve_moment(moment, page.total_count, Found(page.rows), budget)
            found.add_known(rows)
            proved = self._taken(found)
            places = len(proved) + sum(lack.lost for lack in found.missing)
            self.pending = _Pending(self.cursor, last, counted, [], proved, places)
            self.cursor = last + 1
            if self.cursor == rest.end:
                yield from self._prove_pending(0)

    def _prove_pending(self, counted: int) -> Steps[None]:
        """Hands on the pending rows, read again where the count of what follows is not the expected one."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        rows = pending.rows
        excess = pending.excess(counted)
        if excess and pending.start < pending.end:
            stretch = self.whole.between(pending.start, pending.end)
            known = Found(rows)
            if self.handed_on.budget.left > 0:
                found = yield from resolve(stretch, known.given + excess, known, self._budget_for(abs(excess)))
            else:
                found = known.lacking(stretch, known.given + excess, NOT_EXAMINED)
            rows = self._taken(found)
        self._hand_on([*rows, *pending.proved], self.cursor)

    def _budget_for(self, events: int) -> Budget:
        return Budget(_SPARE + _MOST_FOR_ONE * events, self.handed_on.budget)

    def _taken(self, found: Found) -> list[EventRow]:
        self.handed_on.missing += found.missing
        return [*found.rows.values(), *found.repeated]

    def _over_rows_not_given(self, rest: Query, counted: int) -> Steps[None]:
        """No row of a whole page is given. Later pages show where rows are given again."""
        last = -(-counted // MAX_LIMIT)
        for page in sorted({last, *(2**i for i in range(1, last.bit_length()))} - {1}):
            rows = (yield from self._requested(rest, page=page)).rows
            if rows:
                first = max(min(row.ms for row in rows), self.cursor + 1)
                stretch = self.whole.between(self.cursor, first)
                found = yield from resolve(stretch, counted, Found(), self._budget_for(MAX_LIMIT))
                self._hand_on(self._taken(found), first)
                return
        self.handed_on.missing.append(rest.discrepancy(counted, 0, NOT_GIVEN))
        self.cursor = rest.end

    def _hand_on(self, rows: Iterable[EventRow], up_to: int) -> None:
        self.handed_on.add(rows, up_to)
        self.cursor = up_to

    def _pages_allowed(self) -> int:
        """A few for every row given, and for no more rows than there were at first, about.

        A server whose pages bring next to nothing, or new events without end, must not keep a reading for ever.
        """
        return _SPARE + min(self.handed_on.rows, 2 * (self.first_count or 0)) // 4

    # A server of before July 2026 cuts both bounds to whole seconds. It shows where rows come from before the
    # bound, and it loses rows where the window ends inside a second.

    def _look_at_bounds(self, page: RowPage, query: Query) -> None:
        if outside := [row for row in page.rows if row not in query]:
            raise PolarIncompleteError(
                f"Polar gave {len(outside)} events outside the bounds that were requested, {query}: this "
                "server does not compare bounds in whole milliseconds, so no window of it can be proved complete. A "
                "retry does not help; use a server of July 2026 or later"
            )
        second = _second(self.cursor - 1)
        if self.pending and any(row.ms > second for row in self.pending.rows):
            self.handed_on.is_exact = True

    def _look_at_the_end(self) -> Steps[None]:
        """Whether the window ends inside a second that this server left out.

        It takes one request, where nothing was given that shows the contrary.
        """
        end = self.whole.end
        second = _second(end)
        if self.handed_on.is_exact or second == end:
            return
        last = self.whole.between(max(second, self.whole.start), end)
        page = yield from self._requested(last.between(last.start, second + _SECOND))
        if any(row.ms < end for row in page.rows):
            page = yield from self._requested(last)
            if not any(row in last for row in page.rows):
                raise PolarIncompleteError(
                    f"Polar does not give the events of {last} when they are requested with these bounds:"
                    " this server cuts bounds to whole seconds, so the window's last part of a second is lost. A retry "
                    "does not help; use a server of July 2026 or later, or windows that end on whole seconds"
                )
