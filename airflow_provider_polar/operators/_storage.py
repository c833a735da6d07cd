"""Object storage as operators take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, get_hook_lineage_collector

from airflow_provider_polar.exceptions import PolarConfigurationError

if TYPE_CHECKING:
    from airflow_provider_polar.events.exporting.storage import Directory

_MAX_LINEAGE = 100


def storage_path(destination: Any, conn_id: str | None) -> ObjectStoragePath:
    """The directory that a parameter means.

    :raises PolarConfigurationError: it is empty, or no path of a store that there is.
    """
    if isinstance(destination, ObjectStoragePath):
        return ObjectStoragePath(destination, conn_id=conn_id) if conn_id else destination
    if not isinstance(destination, str) or not destination.strip():
        raise PolarConfigurationError(f"destination is {destination!r}; it is a directory in object storage, as text")
    try:
        return ObjectStoragePath(destination, conn_id=conn_id)
    except ValueError as error:
        raise PolarConfigurationError(f"destination {destination!r} is no path to object storage: {error}") from error


def is_templated(value: Any) -> bool:
    """Whether a value may still change before the task runs: Jinja text or an ``XComArg`` somewhere in it."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(map(is_templated, value.values()))
    if isinstance(value, Sequence):
        return any(map(is_templated, value))
    return hasattr(value, "resolve")


def report_lineage(context: Any, directory: Directory, names: Sequence[str]) -> None:
    """Tells Airflow's lineage what was written; of very many files, the first hundred."""
    collector = get_hook_lineage_collector()
    for name in names[:_MAX_LINEAGE]:
        collector.add_output_asset(context=context, uri=directory.url_of(name))
