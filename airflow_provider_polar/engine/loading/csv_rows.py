"""Rows as the CSV that databases copy from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def csv_rows(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as lines of UTF-8: text always in quotes, so that a cell without is null where it is empty."""
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows).encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
