"""A directory of an object store: objects are written whole or not at all, and every failure is said in one way."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from airflow_provider_polar.exceptions import PolarDestinationError

_PREFIX_LISTING = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}
"""Stores whose fsspec file systems list by prefix on the server, so that a directory of many windows stays cheap."""
_COPY_PATIENCE = 60.0


class StoragePath(Protocol):
    """What is needed of an ``ObjectStoragePath`` (or any ``UPath``)."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""

    @property
    def path(self) -> str:
        """The path within it."""


class Directory:
    """One directory, by names relative to it (``a.jsonl``, ``_incomplete/b.jsonl``). Thread-safe as fsspec is.

    :param path: ``ObjectStoragePath`` of the directory; need not exist.
    :raises PolarDestinationError: its file system cannot be had (unknown scheme, missing package, bad connection).
    """

    def __init__(self, path: StoragePath) -> None:
        self.url = str(path).rstrip("/")
        with self._saying("use", "", hint="is the Airflow provider of this store installed, and its connection right?"):
            self._fs = path.fs
            self._root = path.path.rstrip("/")
            protocol = self._fs.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._is_local = not self._protocols.isdisjoint({"file", "local"})

    def url_of(self, name: str) -> str:
        """An object's full path as text, the connection id included as ``ObjectStoragePath`` writes it."""
        return f"{self.url}/{name}"

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _saying(self, doing: str, name: str, hint: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # stores raise their own SDKs' errors
            where = self.url_of(name) if name else self.url
            said = f"cannot {doing} {where}: {type(error).__name__}: {error}"
            raise PolarDestinationError(f"{said} ({hint})" if hint else said) from error

    def write(self, name: str, content: bytes) -> None:
        """Puts a small object, replacing what is there in one step."""
        with self._saying("write", name):
            if self._is_local:
                parent, _, last = self._at(name).rpartition("/")
                between = f"{parent}/.{last}.tmp"
                _make_folder(parent)
                with open(between, "wb") as file:
                    file.write(content)
                os.replace(between, self._at(name))
            else:
                self._fs.pipe_file(self._at(name), content)

    def upload(self, local: str, name: str) -> None:
        """Puts a local file whole; object stores show it only once it is complete."""
        with self._saying("write", name):
            size = os.path.getsize(local)
            if self._is_local:
                _make_folder(os.path.dirname(self._at(name)))
                shutil.copyfile(local, self._at(name))
            else:
                self._fs.put_file(local, self._at(name))
        self._expect_size(name, size)

    def move(self, source: str, target: str, size: int) -> None:
        """Gives an object its final name: in one step on a disk; by a copy within the store, checked by its size
        before the source goes, elsewhere."""
        with self._saying("write", target):
            if self._is_local:
                os.replace(self._at(source), self._at(target))
                return
            self._fs.cp_file(self._at(source), self._at(target))
        self._expect_size(target, size)
        self.remove(source)

    def _expect_size(self, name: str, size: int) -> None:
        # Azure copies in the background: for a moment the object may be shorter.
        deadline = time.monotonic() + _COPY_PATIENCE
        while (found := self.size(name)) != size:
            if time.monotonic() > deadline or self._is_local:
                raise PolarDestinationError(f"wrote {size} bytes to {self.url_of(name)}, but it holds {found}")
            time.sleep(0.2)

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none."""
        with self._saying("look at", name):
            self._forget()
            try:
                return int(self._fs.info(self._at(name))["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """An object's content, None where there is none."""
        with self._saying("read", name):
            try:
                content: bytes = self._fs.cat_file(self._at(name))
            except FileNotFoundError:
                return None
            return content

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with self._saying("remove", name):
            try:
                self._fs.rm_file(self._at(name))
            except FileNotFoundError:
                return

    def remove_empty(self, name: str) -> None:
        """Removes a directory from a disk if nothing is in it; object stores have none."""
        if self._is_local:
            with self._saying("remove", name):
                try:
                    os.rmdir(self._at(name))
                except OSError:
                    return

    def names(self, prefix: str) -> list[str]:
        """The names of objects directly in ``prefix``'s directory that begin with it, sorted."""
        parent, _, start = self._at(prefix).rpartition("/")
        with self._saying("list", prefix):
            self._forget()
            try:
                if self._protocols.isdisjoint(_PREFIX_LISTING):
                    found = [info["name"] for info in self._fs.ls(parent, detail=True) if info["type"] == "file"]
                else:
                    found = self._fs.find(parent, prefix=start)
            except FileNotFoundError:
                return []
        inside = prefix.rpartition("/")[0]
        lasts = (path[len(parent) + 1 :] for path in self._relative_to(parent, found))
        return sorted(f"{inside}/{n}" if inside else n for n in lasts if n.startswith(start) and "/" not in n)

    def _relative_to(self, parent: str, found: list[str]) -> list[str]:
        strip: Callable[[str], str] = self._fs._strip_protocol
        root = strip(parent).rstrip("/")
        return [parent + strip(path)[len(root) :] for path in found if strip(path).startswith(root + "/")]

    def _forget(self) -> None:
        # Listings are cached in the process; another worker may have written since.
        self._fs.invalidate_cache()


def _make_folder(path: str) -> None:
    for _ in range(5):
        try:
            os.makedirs(path, exist_ok=True)
            return
        except FileNotFoundError:
            # Another window's export has just removed the parent, empty at that moment.
            continue
    os.makedirs(path, exist_ok=True)
