"""Metadata in the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_polar.engine.files.json_text import json_value


def gathered(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """``metadata.KEY`` columns as one object, and a ``metadata`` column of JSON text as the object that it is."""
    event: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for column, cell in row.items():
        if column == "metadata" and isinstance(cell, str):
            cell, error = json_value(cell.encode(errors="surrogatepass"))
            if error or not isinstance(cell, dict):
                return row, "metadata is not a JSON object"
        if column == "metadata" and isinstance(cell, Mapping):
            gathered: Mapping[str, Any] = cell
        elif column.startswith("metadata."):
            gathered = {} if cell is None else {column.removeprefix("metadata."): cell}
        else:
            event[column] = cell
            continue
        if twice := metadata.keys() & gathered.keys():
            return row, f"metadata has {min(twice)!r} twice: in the column metadata and in one of its own"
        metadata.update(gathered)
    return ({**event, "metadata": metadata}, None) if metadata else (event, None)
