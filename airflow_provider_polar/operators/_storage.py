"""Object storage as operators take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.engine.files.packages import file_system
from airflow_provider_polar.exceptions import PolarConfigurationError


def storage_path(value: Any, conn_id: str | None, what: str = "destination") -> ObjectStoragePath:
    """The place in object storage that a parameter means.

    :param what: the parameter's name, for the error.
    :raises PolarConfigurationError: it is empty, no path of a store that there is, or in a store whose package is not
        installed.
    """
    if isinstance(value, ObjectStoragePath):
        path = ObjectStoragePath(value, conn_id=conn_id) if conn_id else value
    # What a template makes of nothing would otherwise be a folder of that name on the worker.
    elif not isinstance(value, str) or value.strip() in ("", "None"):
        raise PolarConfigurationError(f"{what} is {value!r}; it is a path in object storage, as text")
    else:
        try:
            path = ObjectStoragePath(value, conn_id=conn_id)
        except ValueError as error:
            raise PolarConfigurationError(f"{what} {value!r} is no path to object storage: {error}") from error
    try:
        file_system(path, what)
    except PolarConfigurationError:
        raise
    except Exception:  # noqa: S110
        pass  # Any other fault of the store is told where the path is used.
    return path


def is_templated(value: Any) -> bool:
    """Whether a value may still change before the task runs: Jinja text or an ``XComArg`` somewhere in it."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(map(is_templated, value.values()))
    if isinstance(value, Sequence):
        return any(map(is_templated, value))
    return hasattr(value, "resolve")
