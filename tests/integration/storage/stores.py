"""Stores to export to: the disk, moto's S3 server, Microsoft's Azurite; each looked into by a client of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

AZURITE_ACCOUNT = "devstoreaccount1"
# Azurite's published key, the same everywhere.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Store:
    """A place to export to.

    :param url: of a directory in it.
    :param options: for fsspec's file system.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Everything in the directory, by name relative to it, listed without fsspec."""
        raise NotImplementedError

    def objects(self) -> dict[str, bytes]:
        """The same with its content."""
        return {name: self._read(name) for name in self.names()}

    def _read(self, name: str) -> bytes:
        raise NotImplementedError

    def unfinished(self) -> list[str]:
        """Uploads that were begun and neither finished nor given up."""
        return []


class Disk(Store):
    @property
    def _root(self) -> Path:
        return Path(self.url.removeprefix("file://"))

    def names(self) -> list[str]:
        # Path.rglob() fails where a folder goes while it looks.
        found = (Path(folder, name) for folder, _, names in os.walk(self._root) for name in names)
        return [str(path.relative_to(self._root)) for path in sorted(found)]

    def _read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class S3(Store):
    @property
    def _client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.options["client_kwargs"]["endpoint_url"], region_name="us-east-1")

    def _split(self) -> tuple[str, str]:
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        return bucket, prefix + "/"

    def names(self) -> list[str]:
        bucket, prefix = self._split()
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"][len(prefix) :] for page in pages for entry in page.get("Contents", [])]

    def _read(self, name: str) -> bytes:
        bucket, prefix = self._split()
        content: bytes = self._client.get_object(Bucket=bucket, Key=prefix + name)["Body"].read()
        return content

    def unfinished(self) -> list[str]:
        bucket, _ = self._split()
        return [upload["Key"] for upload in self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


class Azure(Store):
    @property
    def _prefix(self) -> str:
        return self.url.removeprefix("abfs://").partition("/")[2] + "/"

    def _client(self) -> Any:
        from azure.storage.blob import ContainerClient

        container = self.url.removeprefix("abfs://").partition("/")[0]
        return ContainerClient.from_connection_string(self.options["connection_string"], container)

    def names(self) -> list[str]:
        with self._client() as client:
            return [blob.name[len(self._prefix) :] for blob in client.list_blobs(name_starts_with=self._prefix)]

    def _read(self, name: str) -> bytes:
        with self._client() as client:
            content: bytes = client.download_blob(self._prefix + name).readall()
            return content


@contextmanager
def s3_server() -> Iterator[dict[str, Any]]:
    """Moto's S3 server; gives the options of s3fs."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        host, port = server.get_host_and_port()
        try:
            yield {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        finally:
            server.stop()


def _azurite_command() -> list[str]:
    """Azurite from the path, or installed once by npm into the user's cache."""
    if found := shutil.which("azurite-blob"):
        return [found]
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Azurite needs npm, or azurite-blob on the path")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "airflow-provider-polar" / "azurite"
    command = cache / "node_modules" / ".bin" / "azurite-blob"
    if not command.exists():
        cache.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(cache), "azurite"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install Azurite: {done.stderr[-300:]}")
    return [str(command)]


@contextmanager
def azurite_server(folder: Path) -> Iterator[dict[str, Any]]:
    """Azurite's blob server; gives the options of adlfs."""
    pytest.importorskip("adlfs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck", "--silent"]
    process = subprocess.Popen([*_azurite_command(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    try:
        for _ in range(150):
            time.sleep(0.1)
            try:
                urllib.request.urlopen(url, timeout=1)
            except urllib.error.HTTPError:
                break
            except OSError:
                continue
        else:
            pytest.fail("Azurite did not start")
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};BlobEndpoint={url};"
        )
        yield {"connection_string": connection}
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
