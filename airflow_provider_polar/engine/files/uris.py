"""Paths in object storage: the stores that are known, and the one place that takes a path's text apart."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.parse import quote

_DISK = ("", "file", "local")
MANIFEST_ENDING = "manifest.json"
"""What the name of every manifest ends in, and that of no other object in a destination."""


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


@dataclass(frozen=True, slots=True)
class StorageUri:
    """What a path names: the same for everyone, whatever connection it is reached by.

    :param scheme: such as ``s3``; empty where the text has none.
    :param bucket: the bucket or container; empty on a disk. An ``ObjectStoragePath`` writes its connection id as the
        user before it, which is left out.
    :param path: the rest, with the slash that it begins with.
    """

    scheme: str
    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Takes a URI, or a plain path of the disk, apart."""
        scheme, mark, rest = text.partition("://")
        if not mark or scheme in _DISK:
            return cls(scheme if mark else "", "", rest if mark else text)
        authority, slash, key = rest.partition("/")
        return cls(scheme, authority.rpartition("@")[2], slash + key)

    @property
    def is_on_disk(self) -> bool:
        """Whether it names a file of a disk."""
        return self.scheme in _DISK

    def __str__(self) -> str:
        return f"{self.scheme or 'file'}://{self.bucket}{self.path}"


def same_for_all_connections(text: str) -> str:
    """A path's text without its connection, a path of the disk in its shortest form."""
    uri = StorageUri.parse(text)
    if uri.is_on_disk:
        return ("file://" if uri.scheme else "") + posixpath.normpath(uri.path)
    return str(uri)


def storage_url(text: str) -> str:
    """Where a browser finds an object: the store's console if it has one, else the path itself."""
    uri = StorageUri.parse(text)
    store = STORES.get(uri.scheme)
    if store is None or store.console is None:
        return text if uri.scheme else str(uri)
    return store.console.format(bucket=uri.bucket, key=quote(uri.path.removeprefix("/")))
