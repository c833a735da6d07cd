"""Events, or rows that events are made of, as operators take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.operators._base import PolarOperator
from airflow_provider_polar.operators._storage import check_path, storage_path
from airflow_provider_polar.parameters import Parser, optional

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.engine.ingesting.mapping import EventMapping


class UnshownEvents:
    """Rendered events, which the record of rendered fields does not quote.

    Airflow shows a rendered field in its web pages and keeps it in its database as the text that it is: this one says
    how many events there are, and not which."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        if isinstance(self.value, Sequence) and not isinstance(self.value, (str, bytes)):
            return "1 event" if len(self.value) == 1 else f"{len(self.value):,} events"
        return f"events as {type(self.value).__name__}"


class PolarRowsOperator(PolarOperator):
    """An operator that takes events, or files; the operators below it say what for."""

    def __init__(
        self,
        *,
        events: Sequence[Mapping[str, Any]] | XComArg | str | None = None,
        source: str | ObjectStoragePath | None = None,
        source_conn_id: str | None = None,
        mapping: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow does not render what it calls.
        self.events = _unshown(events) if callable(events) else events
        self.source = source
        self.source_conn_id = source_conn_id
        self.mapping = mapping

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"source": optional(_check_source), "mapping": optional(_mapping)}

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Renders a value as every operator does, and keeps rendered events from being shown."""
        rendered = super().render_template(content, *args, **kwargs)
        is_events = content is not None and content is self.events and "events" in self.template_fields
        return UnshownEvents(rendered) if is_events and not isinstance(rendered, UnshownEvents) else rendered

    @property
    def _rendered(self) -> Any:
        """What the parameter ``events`` has rendered to."""
        return self.events.value if isinstance(self.events, UnshownEvents) else self.events

    def _rendered_events(self) -> Iterable[Any]:
        """The events of the parameter ``events``.

        :raises PolarConfigurationError: it is no list of events, nor the JSON of one.
        """
        events = self._rendered
        if isinstance(events, str):
            try:
                events = json.loads(events)
            except ValueError:
                raise PolarConfigurationError(
                    "events is text that is not JSON; give the upstream task's output itself, or render | tojson"
                ) from None
        return as_rows(events, "events")

    def _paths(self) -> list[ObjectStoragePath]:
        """The files of the parameter ``source``."""
        from airflow_provider_polar.engine.ingesting.sources import is_glob, matching

        path = storage_path(self.source, self.source_conn_id, "source")
        if not is_glob(str(path)):
            return [path]
        return [ObjectStoragePath(name, conn_id=self.source_conn_id) for name in matching(path)]


def _unshown(give: Callable[..., Any]) -> Callable[..., Any]:
    """A callable for a templated field whose events the record of rendered fields does not quote."""

    @wraps(give)
    def events(context: Context, jinja_env: Any) -> UnshownEvents:
        return UnshownEvents(give(context=context, jinja_env=jinja_env))

    return events


def _check_source(value: Any, name: str) -> None:
    from airflow_provider_polar.engine.files.formats import format_of
    from airflow_provider_polar.engine.ingesting.sources import is_glob

    check_path(value, name)
    if not is_glob(str(value)):
        format_of(str(value))


def _mapping(value: Any, _name: str) -> EventMapping:
    from airflow_provider_polar.engine.ingesting.mapping import EventMapping

    return EventMapping(value)


def as_rows(events: Any, what: str) -> Iterable[Any]:
    """``events`` if it is an iterable of events.

    :raises PolarConfigurationError: for anything else, such as one event alone, or nothing.
    """
    if isinstance(events, Iterable) and not isinstance(events, (str, bytes, Mapping)):
        return events
    told = "None: the upstream task has returned nothing" if events is None else f"a {type(events).__name__}"
    raise PolarConfigurationError(f"{what} is {told}; it is a list of events")
