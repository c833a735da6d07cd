"""``@task.polar_ingest``: a function that returns or yields events becomes an ingest task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.operators._rows import as_rows
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

_SET_BY_THE_FUNCTION: tuple[Any, ...] = ()


class _PolarIngestDecoratedOperator(DecoratedOperator, PolarIngestEventsOperator):  # type: ignore[misc, unused-ignore]
    """Calls the function and ingests the events that it returns or, one at a time, yields."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(field for field in PolarIngestEventsOperator.template_fields if field not in ("events", "source", "sql")),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name: str = "@task.polar_ingest"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if clash := {"events", "source", "source_conn_id", "sql", "sql_conn_id"} & set(kwargs):
            raise PolarConfigurationError(f"@task.polar_ingest takes no {min(clash)}: the function gives the events")
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            events=_SET_BY_THE_FUNCTION,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Ingests what the function gives. A generator is read once, as the events are checked."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        events = self.python_callable(*self.op_args, **kwargs)
        with self._connected():
            return self._ingest_rows(context, as_rows(events, "what the function gives"))


def polar_ingest_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Makes a function that returns or yields events an ingest task.

    The arguments of :class:`~airflow_provider_polar.operators.ingest.PolarIngestEventsOperator` go to the decorator,
    without ``events``, ``source`` and ``sql``.

    :param python_callable: the function.
    :param multiple_outputs: push each key of the summary as an XCom of its own, too.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_PolarIngestDecoratedOperator,
        **kwargs,
    )
