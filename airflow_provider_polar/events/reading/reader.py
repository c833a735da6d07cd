"""The complete reader: forward by time, proved by the API's own counts. Decisions only; drivers do the asking.

Polar's pages are no partition: events that share a millisecond across a page's edge come twice or not at all. So a
reading asks for the first page only, keeps what lies before the last millisecond of it, and goes on from that
millisecond. The next answer's count must then be the last one less what was kept. Where it is not, the spot between
is read again, more finely cut (:mod:`~airflow_provider_polar.events.reading.spots`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, RowPage, to_ms
from airflow_provider_polar.events.reading.proof import (
    ARRIVING,
    MILLISECOND,
    NOT_EXAMINED,
    NOT_GIVEN,
    SECOND,
    Ask,
    Asking,
    Box,
    Budget,
    Found,
    Reading,
    SliceReport,
    Spot,
    asked,
    cell_start,
    reach,
)
from airflow_provider_polar.events.reading.spots import resolve
from airflow_provider_polar.events.window import EventWindow

__all__ = ["Ask", "SliceReport", "Spot", "count_window", "read_slice"]


def count_window(window: EventWindow, filters: EventFilters, grain: int = MILLISECOND) -> Asking[int]:
    """What Polar counts in the request that holds a window: one request."""
    page = yield from asked(Box.of(window, filters, grain), limit=1)
    return page.total_count


def read_slice(window: EventWindow, filters: EventFilters, grain: int = MILLISECOND) -> Reading[SliceReport]:
    """Reads a slice: yields an :class:`Ask` to be answered by ``send(page)``, or rows in their final order,
    (timestamp, id), each event once. Rows that were yielded are proved, or the report says where they are not.

    What is handed on holds every event that was listable when the reading began. One that arrives behind the
    reading is seen by a later count only: see :func:`~airflow_provider_polar.events.reading.slices.find_changed`.

    :param grain: of the server's bounds, where an earlier report showed it.
    """
    return (yield from _SliceReading(window, filters, grain).read())


_SPARE = 256
"""Requests that a slice may take beyond what its rows account for."""
_MOST_FOR_SPOTS = 10_000


@dataclass(slots=True)
class _Pending:
    """Rows before the cursor that the next count is to prove.

    :param start: where they begin.
    :param proved_from: from here to the cursor they are proved by a count of their own.
    :param counted: what was counted from ``start``.
    :param expected: what the next answer should count from the cursor.
    """

    start: int
    proved_from: int
    rows: list[EventRow]
    counted: int
    expected: int


class _OtherGrain(Exception):
    """The server's bounds are not whole milliseconds."""


class _SliceReading:
    def __init__(self, window: EventWindow, filters: EventFilters, grain: int) -> None:
        self.window, self.filters, self.grain = window, filters, grain
        self.first_grain = grain
        self.whole = Box.of(window, filters, grain)
        self.cursor = self.whole.start
        self.handed_on_to = window.start_ms
        self.pending: _Pending | None = None
        self.exact = False
        self.rows = self.repeated = self.before = self.after = self.requests = 0
        self.missing: list[Spot] = []
        self.first_count: int | None = None
        self.steps = 0
        self.budget = Budget(0)

    def read(self) -> Reading[SliceReport]:
        counting = self._forward()
        answer: RowPage | None = None
        while True:
            try:
                step = counting.send(answer)
            except StopIteration:
                break
            if isinstance(step, Ask):
                self.requests += 1
                answer = yield step
            else:
                answer = None
                if step:
                    yield step
        lost = sum(spot.lost for spot in self.missing)
        counted = self.before + self.rows + self.repeated + self.after + lost
        return SliceReport(
            window=self.window,
            rows=self.rows,
            counted=counted,
            repeated=self.repeated,
            missing=tuple(self.missing),
            before=self.before,
            after=self.after,
            arrived=max(0, counted - (self.first_count or 0)) if self.grain == self.first_grain else 0,
            requests=self.requests,
            grain=self.grain,
        )

    def _forward(self) -> Reading[None]:
        while True:
            try:
                yield from self._to_the_end()
                if not (yield from self._end_was_cut()):
                    return
            except _OtherGrain:
                pass
            self._go_by_seconds()

    def _to_the_end(self) -> Reading[None]:
        while self.cursor < self.whole.end:
            rest = self.whole.between(self.cursor, self.whole.end)
            page = yield from asked(rest)
            if page.total_count and not page.rows:
                # A page may come out short once.
                page = yield from asked(rest)
            if self.grain == MILLISECOND and any(row.ms < self.cursor for row in page.rows):
                raise _OtherGrain
            self._look_for_exact_bounds()
            self._limit(page.total_count)
            yield from self._prove_pending(page.total_count)
            rows = [row for row in page.rows if row in rest]
            if page.total_count <= len(rows):
                yield self._hand_on(rows, rest.end)
                self.cursor = rest.end
                return
            self.steps += 1
            if self.steps > self._steps_allowed():
                self.missing.append(rest.spot(page.total_count, 0, ARRIVING))
                return
            yield from self._step(rest, rows, page.total_count)

    def _step(self, rest: Box, rows: list[EventRow], counted: int) -> Reading[None]:
        """Goes as far forward as a page takes it."""
        if not rows:
            yield from self._over_a_hole(rest, counted)
            return
        last = cell_start(max(row.ms for row in rows), self.grain)
        kept = [row for row in rows if row.ms < last]
        if kept:
            self.pending = _Pending(self.cursor, last, kept, counted, counted - len(kept))
            self.cursor = last
        else:
            # All of one moment, which may hold more than a page; nothing was given before it.
            found = yield from self._resolve(last, last + self.grain, counted, rows)
            rows = [*found.rows.values(), *found.repeated]
            expected = counted - len(rows) - sum(spot.lost for spot in found.missing)
            self.pending = _Pending(self.cursor, last, rows, counted, expected)
            self.cursor = min(last + self.grain, rest.end)
            if self.cursor == rest.end:
                yield from self._prove_pending(0)

    def _prove_pending(self, counted: int) -> Reading[None]:
        """Hands on the pending rows, read again where the count of what follows is not the expected one."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        rows = pending.rows
        if counted != pending.expected:
            if pending.start == pending.proved_from:
                # A moment's own count was less than what it took from the whole.
                if counted < pending.expected and self.grain == MILLISECOND:
                    raise _OtherGrain
            elif self.budget.left > 0:
                found = yield from self._resolve(pending.start, pending.proved_from, pending.counted, rows)
                rows = [*found.rows.values(), *found.repeated, *(row for row in rows if row.ms >= pending.proved_from)]
            elif counted < pending.expected:
                given = sum(row.ms < pending.proved_from for row in rows)
                box = self.whole.between(pending.start, reach(pending.proved_from, self.grain))
                self.missing.append(box.spot(given + pending.expected - counted, given, NOT_EXAMINED))
        yield self._hand_on(rows, self.cursor)

    def _resolve(self, start: int, end: int, counted: int, known: Sequence[EventRow]) -> Reading[Found]:
        """Reads from ``start`` to ``end`` with counts of its own."""
        box = self.whole.between(start, min(reach(end, self.grain), self.whole.end))
        found = (yield from resolve(box, self.budget.part(_SPARE + counted // 4))).before(end)
        # Events do not vanish: bounds that leave out what was given before are bounds of another grain.
        if not found.add_known(row for row in known if start <= row.ms < end) and self.grain == MILLISECOND:
            raise _OtherGrain
        self.missing += found.missing
        return found

    def _over_a_hole(self, rest: Box, counted: int) -> Reading[None]:
        """A whole page of rows is not given. Later pages show where rows are given again."""
        last = -(-counted // MAX_LIMIT)
        for page in sorted({last, *(2**i for i in range(1, last.bit_length()))} - {1}):
            rows = [row for row in (yield from asked(rest, page=page)).rows if row in rest]
            if rows:
                first = max(cell_start(min(row.ms for row in rows), self.grain), self.cursor + self.grain)
                found = yield from self._resolve(self.cursor, first, counted, rows)
                yield self._hand_on([*found.rows.values(), *found.repeated], first)
                self.cursor = first
                return
        self.missing.append(rest.spot(counted, 0, NOT_GIVEN))
        self.cursor = rest.end

    def _hand_on(self, rows: Iterable[EventRow], up_to: int) -> list[EventRow]:
        """The rows of the window among rows that are complete from the cursor to ``up_to``, each once, in order."""
        distinct: dict[str, EventRow] = {}
        for row in rows:
            if row.timestamp < self.window.start:
                self.before += 1
            elif row.timestamp >= self.window.end:
                self.after += 1
            elif row.ms < self.handed_on_to:
                continue
            elif row.id in distinct:
                self.repeated += 1
            else:
                distinct[row.id] = row
            self.exact = self.exact or row.ms >= self.window.end_ms // SECOND * SECOND
        self.handed_on_to = max(self.handed_on_to, up_to)
        self.rows += len(distinct)
        return sorted(distinct.values(), key=lambda row: (row.timestamp, row.id))

    def _limit(self, counted: int) -> None:
        """Bounds the work by what the first answer counted."""
        if self.first_count is None:
            self.first_count = counted
            self.budget = Budget(min(2 * _SPARE + counted // 4, _MOST_FOR_SPOTS))

    def _steps_allowed(self) -> int:
        """A few for every row given, and for no more rows than there were at first, about: a server whose pages
        bring next to nothing, or new events without end, must not keep a reading for ever."""
        return _SPARE + min(self.rows, 2 * (self.first_count or 0)) // 4

    # A server of before July 2026 cuts both bounds to whole seconds. It shows where rows come from before the
    # bound, and loses rows where the window ends inside a second.

    def _go_by_seconds(self) -> None:
        self.grain, self.pending = SECOND, None
        self.missing = [spot for spot in self.missing if to_ms(spot.start) < self.handed_on_to]
        self.whole = Box.of(self.window, self.filters, SECOND)
        self.cursor = cell_start(self.handed_on_to, SECOND)

    def _look_for_exact_bounds(self) -> None:
        second = (self.cursor - 1) // SECOND * SECOND
        if self.pending and any(second < row.ms for row in self.pending.rows):
            self.exact = True

    def _end_was_cut(self) -> Asking[bool]:
        """Whether the window ends inside a second that this server left out: two requests at most."""
        end = self.window.end_ms
        second = end // SECOND * SECOND
        if self.grain != MILLISECOND or self.exact or second == end:
            return False
        last = Box(second, end, self.filters)
        page = yield from asked(last)
        cut = any(row.ms < second for row in page.rows)
        if not cut and not page.rows:
            page = yield from asked(last.between(second, second + SECOND))
            cut = any(row in last for row in page.rows)
        if cut:
            self.handed_on_to = max(self.window.start_ms, second)
        return cut
