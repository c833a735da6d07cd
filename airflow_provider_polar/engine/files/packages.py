"""Packages that only some need: which extra of this distribution brings what, and how that is said."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from airflow_provider_polar.engine.files.uris import STORES
from airflow_provider_polar.exceptions import PolarConfigurationError


class StoragePath(Protocol):
    """What is needed of an ``ObjectStoragePath``: its fsspec file system, the path within it, its scheme."""

    @property
    def fs(self) -> Any: ...
    @property
    def path(self) -> str: ...
    @property
    def protocol(self) -> str: ...


class FilePath(StoragePath, Protocol):
    """What is needed of one that is a file's, to write that (``ObjectStoragePath`` or any ``UPath``)."""

    @property
    def parent(self) -> StoragePath:
        """Its directory."""

    @property
    def name(self) -> str:
        """Its name there."""


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
            raise _missing_store(needed_by, path.protocol) from error
        raise


def installed(module: str, extra: str, needed_by: str) -> Any:
    """A module of a package that not everyone needs.

    :param extra: the extra that brings it.
    :param needed_by: what needs it, such as ``compression='zstd'``.
    :raises PolarConfigurationError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise _missing(needed_by, extra) from None


def _missing(needed_by: str, extra: str) -> PolarConfigurationError:
    return PolarConfigurationError(
        f"{needed_by} needs a package that is not installed: pip install 'airflow-provider-polar[{extra}]'"
    )


def _missing_store(needed_by: str, scheme: str) -> PolarConfigurationError:
    needed_by = f"{needed_by} begins with {scheme}://, which"
    if store := STORES.get(scheme):
        return _missing(needed_by, store.extra)
    return PolarConfigurationError(
        f"{needed_by} no installed Airflow provider serves: install the provider that has a file system for "
        f"{scheme}://; airflow-provider-polar[s3], [gcs] and [azure] bring those for {', '.join(STORES)}"
    )
