"""Packages that only some need: which extra of this distribution brings what, and how that is said."""

from __future__ import annotations

from typing import Any, Protocol

from airflow_provider_polar.exceptions import PolarConfigurationError

STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure"}
"""Schemes of object stores, and the extra that brings the Airflow provider which serves them."""


class StoragePath(Protocol):
    """What is needed of an ``ObjectStoragePath`` (or any ``UPath``)."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""

    @property
    def path(self) -> str:
        """The path within it."""

    @property
    def protocol(self) -> str:
        """The scheme, such as ``s3``."""


def file_system(path: StoragePath, needed_by: str) -> Any:
    """The fsspec file system of a path in object storage; any other fault of the store is raised as it is.

    :param needed_by: the parameter that names the path.
    :raises PolarConfigurationError: the package that serves it is not installed.
    """
    try:
        return path.fs
    except Exception as error:
        # The second is Airflow's word for a scheme that none of the installed providers serves.
        if isinstance(error, ImportError) or "No filesystem registered" in str(error):
            raise missing_store(needed_by, path.protocol) from error
        raise


def missing(needed_by: str, extra: str) -> PolarConfigurationError:
    """The error for a package that is not installed. A retry does not help until it is.

    :param needed_by: what needs it, such as ``compression='zstd'``.
    :param extra: the extra that brings it.
    """
    return PolarConfigurationError(
        f"{needed_by} needs a package that is not installed: pip install 'airflow-provider-polar[{extra}]'"
    )


def missing_store(needed_by: str, scheme: str) -> PolarConfigurationError:
    """The same for the file system of an object store.

    :param needed_by: the parameter that names a path there.
    :param scheme: what the path begins with, such as ``s3``.
    """
    needed_by = f"{needed_by} begins with {scheme}://, which"
    if extra := STORES.get(scheme):
        return missing(needed_by, extra)
    return PolarConfigurationError(
        f"{needed_by} no installed Airflow provider serves: install the provider that has a file system for "
        f"{scheme}://; airflow-provider-polar[s3], [gcs] and [azure] bring those for {', '.join(STORES)}"
    )
