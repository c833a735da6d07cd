"""The business key of rows: who an event is, whatever else its row says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_polar.api.limits import INGEST_FIELDS
from airflow_provider_polar.engine.ingesting.identity import id_of_key
from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.engine.ingesting.validation import check_event_columns
from airflow_provider_polar.engine.ingesting.values import (
    Problems,
    ValueProblem,
    columns_text,
    metadata_value,
    plain,
    unicode_text,
)
from airflow_provider_polar.exceptions import PolarSourceError
from airflow_provider_polar.wording import did_you_mean


class KeyedRows:
    """Makes events of rows, each with the ``external_id`` of its row's business key.

    A key that is no field of an event and no metadata is no part of the event, unless the mapping says so.

    :param columns: the columns that make up the key, in this order.
    :param scope: within which equal keys are one event.
    :param mapping: makes an event of a row; None where rows are events.
    """

    def __init__(self, columns: Sequence[str], scope: str, mapping: EventMapping | None) -> None:
        self._columns, self._scope, self._mapping = columns, scope, mapping
        self._key_only = {column for column in columns if not _is_of_event(column)}

    def check_columns(self, file: str, columns: Collection[str], every_row: bool) -> None:
        """Tells at once that a part of the key is no column, and what the mapping misses.

        :raises PolarSourceError: a column is missing, or says the identity in another way.
        """
        for column in self._columns:
            if column not in columns:
                hint = did_you_mean(column, columns)
                raise PolarSourceError(
                    f"{file} has no column {column!r}, which key takes; {columns_text(columns)}{hint}"
                )
        if self._mapping is not None:
            self._mapping.check_columns(file, columns, every_row)
            return
        if "external_id" in columns:
            raise PolarSourceError(f"{file} has the column external_id, and key says too who an event is: give one")
        check_event_columns(file, [column for column in columns if column not in self._key_only], every_row)

    def __call__(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], Problems]:
        """The event of a row, not validated yet, and the problems of its values."""
        if self._mapping is not None:
            event, problems = self._mapping(row)
        else:
            event = {column: value for column, value in row.items() if column not in self._key_only}
            problems = Problems()
        values = []
        for column in self._columns:
            try:
                values.append(_key_value(_of_row(row, column)))
            except ValueProblem as refused:
                problems += refused.below(f"key {column}")
        event["external_id"] = id_of_key(self._scope, values)
        return event, problems


def _is_of_event(column: str) -> bool:
    return column in INGEST_FIELDS or column.startswith("metadata.")


def _of_row(row: Mapping[str, Any], column: str) -> Any:
    # metadata.KEY columns have become one object.
    if column not in row and column.startswith("metadata."):
        return (row.get("metadata") or {}).get(column.removeprefix("metadata."))
    return row.get(column)


def _key_value(given: Any) -> str | bool | int | float:
    """A part of a key in one form, whichever driver gives it: ``1``, ``1.0`` and ``Decimal("1.00")`` are one."""
    value = plain(given)
    if value is None or (isinstance(value, str) and not value):
        raise ValueProblem("is empty; a part of the key has a value in each row")
    if isinstance(value, str):
        return unicode_text(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.isoformat()
    exact = metadata_value(value)
    return int(exact) if isinstance(exact, float) and exact.is_integer() else exact
