"""The columns of a file of events, told apart from others before its rows are read."""

from __future__ import annotations

from collections.abc import Collection

from airflow_provider_polar.engine.ingesting.content import key_text, near_miss
from airflow_provider_polar.exceptions import PolarSourceError

_TOLD_COLUMNS = 50
_FIELDS = (
    *("name", "external_customer_id", "customer_id", "timestamp", "metadata", "external_id", "parent_id"),
    *("external_member_id", "member_id"),
)


def check_event_columns(file: str, columns: Collection[str], every_row: bool) -> None:
    """Tells at once, and not row by row, that the columns of a file are no events.

    :param every_row: every row has all the columns; False where the rows are objects with keys of their own.
    :raises PolarSourceError: a column is no field of an event, or there is no name or no customer.
    """
    for column in columns if every_row else ():
        if column not in _FIELDS and not column.startswith("metadata."):
            raise PolarSourceError(
                f"{file} has the column {key_text(column)!r}, which is no field of an event"
                f"{near_miss(key_text(column), _FIELDS)}; an event has {', '.join(_FIELDS)}, "
                "and metadata.KEY for each key of its metadata: rename the column, or give a mapping"
            )
    for needed in (("name",), ("external_customer_id", "customer_id")):
        if not set(needed) & set(columns):
            raise PolarSourceError(f"{file} has no column {' or '.join(needed)}; {columns_text(columns)}")


def columns_text(columns: Collection[str]) -> str:
    """The columns of a file in words."""
    told = ", ".join(key_text(column) for column in list(columns)[:_TOLD_COLUMNS])
    return f"it has {told}" + (f" and {len(columns) - _TOLD_COLUMNS} more" if len(columns) > _TOLD_COLUMNS else "")
