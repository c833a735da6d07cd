"""The object stores that are known, by the scheme of their paths."""

from __future__ import annotations

from typing import NamedTuple


class Store(NamedTuple):
    """What is known of an object store.

    :param extra: of this distribution; it brings the Airflow provider that serves the scheme.
    :param console: the address of an object in the store's console.
    """

    extra: str
    console: str | None = None


_S3 = Store("s3", "https://console.aws.amazon.com/s3/object/{bucket}?prefix={key}")
_GCS = Store("gcs", "https://console.cloud.google.com/storage/browser/_details/{bucket}/{key}")
_AZURE = Store("azure")

STORES = {"s3": _S3, "s3a": _S3, "gs": _GCS, "gcs": _GCS, "abfs": _AZURE, "abfss": _AZURE}
PREFIX_LISTING = {*STORES, "az", "adl"}
"""Protocols whose fsspec file systems list by prefix on the server: a directory of many windows stays cheap."""
