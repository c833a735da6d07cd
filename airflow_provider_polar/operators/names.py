"""Lists event names, for dynamic mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.operators._base import PolarOperator
from airflow_provider_polar.parameters import Parser
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class PolarListEventNamesOperator(PolarOperator):
    """Returns the event names in use, as a list of text.

    Each may become a mapped task of its own:

    .. code-block:: python

        names = PolarListEventNamesOperator(task_id="names", filters={"source": "user"})
        PolarExportEventsOperator.partial(task_id="export", destination=...).expand(
            filters=names.output.map(lambda name: {"name": name})
        )

    :param filters: ``organization_id``, ``customer_id``, ``external_customer_id``, ``source`` (``user`` or
        ``system``), ``query`` (a substring), ``sorting`` (plus or minus ``name``, ``occurrences``, ``first_seen``,
        ``last_seen``) (templated). By name where no sorting is given.
    """

    template_fields: Sequence[str] = (*PolarOperator.template_fields, "filters")

    def __init__(self, *, filters: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        from airflow_provider_polar.engine.names import check_filters

        return super()._parsers() | {"filters": lambda value, _: check_filters(value or {})}

    def execute(self, context: Context) -> list[str]:  # noqa: ARG002
        """Reads every page of the names.

        :raises AirflowFailException: an unknown filter, a wrong token or a missing scope; a retry cannot help.
        :raises PolarApiError: Polar failed; a retry may help.
        """
        with self._connected() as hook:
            found = hook.list_event_names(**(self.filters or {}))
        # A name may be used by Polar itself and by an ingest: the same name all the same.
        names = list(dict.fromkeys(name["name"] for name in found))
        self.log.info("%s in use", number_of(len(names), "event name"))
        return names
