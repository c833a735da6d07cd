"""Object storage as operators take it."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.engine.files.packages import file_system
from airflow_provider_polar.engine.files.uris import MANIFEST_ENDING, StorageUri
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.parameters import is_nothing


def check_path(value: Any, name: str) -> None:
    """Refuses by its text alone, without a look at the store, what is no path in object storage.

    :raises PolarConfigurationError: it is empty or relative.
    """
    # What a template makes of nothing would otherwise be a folder of that name on the worker.
    if not isinstance(value, (str, ObjectStoragePath)) or is_nothing(str(value)):
        raise PolarConfigurationError(f"{name} is {value!r}; it is a path in object storage, as text")
    uri = StorageUri.parse(str(value))
    if uri.is_on_disk and not uri.path.startswith("/"):
        raise PolarConfigurationError(
            f"{name} is {str(value)!r}, a path relative to wherever the worker runs: begin it with / or with a store, "
            "as in s3://bucket/folder"
        )


def check_report_path(value: Any, name: str) -> None:
    """Refuses what is no path of a file for a report.

    :raises PolarConfigurationError: it is no path, one of a folder, or has the name of a manifest.
    """
    check_path(value, name)
    if str(value).endswith(("/", MANIFEST_ENDING)):
        raise PolarConfigurationError(
            f"{name} is {str(value)!r}; it is the path of a file, and one that ends in {MANIFEST_ENDING} would be "
            "taken for an export's manifest"
        )


def storage_path(value: Any, conn_id: str | None, what: str = "destination") -> ObjectStoragePath:
    """The place in object storage that a parameter means.

    :param what: the parameter's name, for the error.
    :raises PolarConfigurationError: it is empty, relative, no path of a store that there is, or in a store whose
        package is not installed.
    """
    check_path(value, what)
    if isinstance(value, ObjectStoragePath):
        path = ObjectStoragePath(value, conn_id=conn_id) if conn_id else value
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
