"""Packages that only some need: which extra of this distribution brings what, and how that is said."""

from __future__ import annotations

from airflow_provider_polar.exceptions import PolarConfigurationError

STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure"}
"""Schemes of object stores, and the extra that brings the Airflow provider which serves them."""


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
