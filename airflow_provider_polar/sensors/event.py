"""Waiting for named events of Polar in a task."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarConnectionNotFoundError,
    PolarError,
    PolarWaitError,
    PolarWindowError,
)
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import PolarEventsLink, show_events
from airflow_provider_polar.parameters import is_mapped, is_templated
from airflow_provider_polar.sensors._connection import LiveConnection

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.api.retrying import Retries
    from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult

BACKSTOP = 120.0
"""Seconds after the wait's own deadline at which Airflow ends a deferral whose trigger gave no sign."""
SHORTEST_RESCHEDULE = 60.0
"""Seconds between two looks below which Airflow's own race ends reschedule mode."""
_AIRFLOW_ENDS_IT = "__fail__"
"""The method that Airflow says to resume with where it has ended the deferral itself."""


class PolarEventSensor(BaseSensorOperator):
    """Waits until named events have happened, and returns them.

    What counts is the event's own timestamp, in ``[start, end)``. Every look covers the whole window, so an
    event from before the task started, from between two looks, or one that became visible only minutes later, is
    found: in ``poke`` and ``reschedule`` mode and deferred alike, by the same code.

    A transient fault (no response, 429, 5xx) means another look; ``timeout`` is the only limit. A mistake (a wrong
    token, a missing scope, an impossible filter) fails the task at once and without retries, and so does an event
    named in ``fail_on``. ``soft_fail`` makes *all* of these a skip, the timeout included, and ``never_fail`` every
    failure, in every mode.

    The connection is read before each look, so a token may be rotated while the task waits: only a connection that is
    unchanged after Polar refused its token fails the task. While Airflow does not give the connection, it stays in use
    as it was; where it is missing at the first look, the task fails and Airflow's retries help.

    A name that no event has ever had is said once in the log as a warning, with the nearest names there are.

    :param event_name: one event name or several, for example ``order.paid``. (templated)
    :param match: ``any``: events of any of the names count together; ``all``: every name needs its own. (templated)
    :param min_count: how many events are enough; with ``match="all"``, of every name. Up to a page of 100 they are
        told apart one by one; beyond, Polar's own count is believed. (templated)
    :param start: the window's start, inclusive: an aware datetime or ISO 8601 text with a zone. Default: the start of
        the run's data interval, else its logical date, else the moment from which the run could start. It never
        depends on when the task starts. (templated)
    :param end: the window's end, exclusive; None for open. It does not end the wait, for an event of the window may
        still become visible after it. (templated)
    :param filters: further :class:`~airflow_provider_polar.api.filters.EventFilters`, or the same as a dict; names
        only in ``event_name``. (templated)
    :param fail_on: one event name or several that end the wait with a failure wherever in the window they lie, for
        example ``order.refunded`` while waiting for ``order.paid``. Where both are there, the wait fails. (templated)
    :param polar_conn_id: the connection. (templated)
    :param deferrable: wait in the triggerer, without a worker slot: one look on the worker, then deferred. ``timeout``
        runs on from there; ``poke_interval`` is then at least 5 seconds. The waits of a connection then share requests.
        ``mode="reschedule"`` needs a ``poke_interval`` of 60 seconds or more (Airflow's own limit, which is warned of).
    :raises PolarConfigurationError: when the DAG's file is parsed, for what is wrong and not templated.
    :return: ``{"count", "events", "start", "end"}``: how many events matched; the first of them, at most 10, oldest
        first, as the API's JSON objects without the embedded customer (personal data); the window as ISO 8601 text.
    """

    template_fields: Sequence[str] = (
        "event_name",
        "match",
        "min_count",
        "start",
        "end",
        "filters",
        "fail_on",
        "polar_conn_id",
    )
    template_fields_renderers = {"filters": "json"}
    operator_extra_links = (PolarEventsLink(),)
    ui_color = "#d6e4ff"

    def __init__(
        self,
        *,
        event_name: str | Sequence[str],
        match: str = "any",
        min_count: int | str = 1,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        filters: EventFilters | Mapping[str, Any] | None = None,
        fail_on: str | Sequence[str] | None = None,
        polar_conn_id: str = PolarHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.event_name = event_name
        self.match = match
        self.min_count = min_count
        self.start = start
        self.end = end
        self.filters = filters
        self.fail_on = fail_on
        self.polar_conn_id = polar_conn_id
        self.deferrable = deferrable
        self._check()

    def _check(self) -> None:
        """Refuses, when the DAG's file is parsed, what no run can make right; templated values are judged in the task.

        :raises PolarConfigurationError: naming task and parameter.
        """
        from airflow_provider_polar.engine.waiting.wait import EventWait

        if is_mapped(self):  # its first look judges it
            return
        known = {name: value for name, value in self._options().items() if not is_templated(value)}
        if known.get("start") is None:
            known["start"] = datetime.min.replace(tzinfo=UTC)
        try:
            EventWait.of(**{"event_name": "{{ }}"} | known)
        except PolarConfigurationError as error:
            raise type(error)(f"task {self.task_id!r}: {error}") from None
        if self.mode == "reschedule" and not self.deferrable and self.poke_interval < SHORTEST_RESCHEDULE:
            warnings.warn(
                f"task {self.task_id!r}: mode='reschedule' looks every {self.poke_interval:g} s. Below "
                f"{SHORTEST_RESCHEDULE:g} s Airflow may queue a task again before it has seen it end, and then fails "
                "it (the executor reported success, its state is queued): look more rarely, or set deferrable=True",
                UserWarning,
                stacklevel=2,
            )

    def _options(self) -> dict[str, Any]:
        """The parameters that say what is waited for."""
        from airflow_provider_polar.engine.waiting.wait import EventWait

        return {name: getattr(self, name) for name in EventWait.options()}

    @cached_property
    def _connection(self) -> LiveConnection:
        return LiveConnection(self.polar_conn_id, self.log)

    @property
    def hook(self) -> PolarHook:
        """The hook of the connection as it is now."""
        return self._connection.read()

    def poke(self, context: Context) -> PokeReturnValue:
        """One look. A transient fault counts as not yet.

        :raises AirflowFailException: a mistake that no further look can fix, or an event named in ``fail_on``.
        """
        return self._look(context)

    def _look(self, context: Context, retries: Retries | None = None) -> PokeReturnValue:
        try:
            wait = self.wait(context)
            hook = self._connection.read()
            self._show(wait, hook, context)
            result = self._connection.poll(hook, lambda hook: wait.with_filters(hook.filters).poll(), retries)
            if result.state == "failed":
                raise PolarWaitError(wait.failure(result))
        except PolarError as error:
            if not error.retryable:
                raise AirflowFailException(str(error)) from error
            known = self._connection.is_known or context.get("task_reschedule_count")
            if isinstance(error, PolarConnectionNotFoundError) and not known:
                raise  # at the first look, where it may be a misspelt name, it is Airflow's retries that help
            self.log.warning("The look failed, which counts as not yet: %s", error)
            return PokeReturnValue(False)
        if result.state == "found":
            self._say_found(wait, result.count)
            return PokeReturnValue(True, wait.found(result))
        self._say_what_is_missing(wait, result, context)
        return PokeReturnValue(False)

    def _last_look(self, context: Context) -> PokeReturnValue:
        """The look of a wait that was deferred; a connection that is missing now ends it no other way than its time."""
        from airflow_provider_polar.api.retrying import Retries

        try:
            return self._look(context, Retries())
        except PolarConnectionNotFoundError as error:
            self.log.warning("The last look failed: %s", error)
            return PokeReturnValue(False)

    def execute(self, context: Context) -> Any:
        """Looks until the wait has ended, or looks once and defers."""
        if not self.deferrable:
            with self._softly(AirflowSensorTimeout):
                return super().execute(context)
        with self._softly():
            deadline = datetime.now(UTC) + timedelta(seconds=self.timeout)
            if look := self._first_look(context):
                return look.xcom_value
            return self._defer(context, deadline)

    def _first_look(self, context: Context) -> PokeReturnValue | None:
        try:
            return self.poke(context)
        except AirflowFailException:
            raise
        except Exception:
            if not self.silent_fail:
                raise
            self.log.exception("The first look failed, and silent_fail is set: the wait goes on, deferred.")
            return None

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Ends the task as the trigger says, or, where Airflow has ended the deferral itself, as one more look says.

        Airflow does so where no triggerer was up past the deadline, or where the trigger was not to be run.
        """
        with self._softly():
            if next_method == _AIRFLOW_ENDS_IT:
                reason = (next_kwargs or {}).get("error", "no reason")
                self.log.warning("Airflow has ended the deferral (%s): one more look, on the worker.", reason)
                if look := super().resume_execution("_last_look", {}, context):
                    return look.xcom_value
            return super().resume_execution(next_method, next_kwargs, context)

    def _defer(self, context: Context, deadline: datetime) -> None:
        from airflow_provider_polar.engine.window import moment_text
        from airflow_provider_polar.triggers.event import PolarEventTrigger

        remaining = max(0.0, (deadline - datetime.now(UTC)).total_seconds())
        self.defer(
            trigger=PolarEventTrigger(
                **self.wait(context).to_dict(),
                polar_conn_id=self.polar_conn_id,
                poll_interval=self.poke_interval,
                exponential_backoff=self.exponential_backoff,
                max_wait=self.max_wait.total_seconds() if self.max_wait else None,
                deadline=moment_text(deadline),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=remaining + BACKSTOP),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Ends the task as the trigger saw the wait end."""
        event = event if isinstance(event, Mapping) else {"event": event}
        status, message = event.get("status"), str(event.get("message") or "")
        if status == "found":
            result = event.get("result")
            if isinstance(result, dict) and result.keys() >= {"count", "events", "start", "end"}:
                with suppress(Exception):  # neither a line nor a link is worth failing a wait that has found its events
                    wait = self.wait(context)
                    self._say_found(wait, result["count"])
                    self._show(wait, self.hook, context)
                return result
        if status == "timeout":
            if event.get("looked") is False and (look := self._last_look(context)):
                return look.xcom_value
            raise AirflowSensorTimeout(message)
        if status in ("failed", "error"):
            raise AirflowFailException(message)
        raise AirflowException(f"The trigger of the wait ended in a way that is not known here: {event!r}.")

    def wait(self, context: Context) -> EventWait:
        """What is waited for, from the rendered parameters and the run, whatever the connection says.

        :raises PolarConfigurationError: an impossible parameter.
        """
        from airflow_provider_polar.engine.waiting.wait import EventWait

        return EventWait.of(**self._options() | {"start": anchor(context) if self.start is None else self.start})

    def _show(self, wait: EventWait, hook: PolarHook, context: Context) -> None:
        from airflow_provider_polar.engine.window import EventWindow, moment_text
        from airflow_provider_polar.plugins.ledger.records import keep_wait

        keep_wait(context, list(wait.names), moment_text(wait.start))
        window = None if wait.end is None else EventWindow(wait.start, wait.end)
        show_events(context, hook.settings.environment, window=window, filters=wait.filters, names=wait.names)

    def _say_found(self, wait: EventWait, count: int) -> None:
        from airflow_provider_polar.wording import number_of

        self.log.info("Found %s: %s", number_of(count, "event"), wait)

    def _say_what_is_missing(self, wait: EventWait, result: PollResult, context: Context) -> None:
        self.log.info("Not yet: %s (%d so far).", wait, result.count)
        if result.unlisted:
            from airflow_provider_polar.wording import number_of

            self.log.info("Polar counts %s more than it gives so far", number_of(result.unlisted, "event"))
        rescheduled = context.get("task_reschedule_count") or 0
        if rescheduled or "_names_checked" in self.__dict__ or not (result.unseen or wait.fail_on):
            return
        self.__dict__["_names_checked"] = True
        from airflow_provider_polar.engine.waiting.wait import unknown_names

        try:
            known = [name["name"] for name in self.hook.list_event_names()]
        except PolarError as error:
            self.log.info("The event names in use could not be looked up: %s", error)
            return
        for sentence in unknown_names((*result.unseen, *wait.fail_on), known):
            self.log.warning("%s", sentence)

    @contextmanager
    def _softly(self, kind: type[Exception] = Exception) -> Iterator[None]:
        """What ``soft_fail`` and ``never_fail`` make of a failure, alike in every mode and on every Airflow.

        :param kind: what else is no failure: Airflow's own loop has looked after it, or is not at its end.
        """
        try:
            yield
        except AirflowSkipException:
            raise
        except kind as error:
            if self.never_fail or (self.soft_fail and isinstance(error, (AirflowFailException, AirflowSensorTimeout))):
                said = "never_fail" if self.never_fail else "soft_fail"
                raise AirflowSkipException(f"Skipped, as {said} says, after: {error}") from error
            raise


def anchor(context: Context) -> datetime:
    """Where a wait of this run starts unless it says so itself.

    That is the start of the data interval (which a plain cron schedule leaves empty: it is then the logical date),
    else the logical date, else the moment from which the run could start.

    :raises PolarWindowError: the context has no run.
    """
    run = context.get("dag_run")
    for moment in (
        context.get("data_interval_start"),
        context.get("logical_date"),
        getattr(run, "queued_at", None),
        getattr(run, "run_after", None),
    ):
        if moment is not None:
            return moment  # type: ignore[no-any-return, unused-ignore]
    raise PolarWindowError("This run has neither a data interval nor a logical date: give the wait a start.")
