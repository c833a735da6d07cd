"""A directory of an object store: objects are written whole or not at all, and every failure is said in one way."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from typing import Any, cast

from airflow_provider_polar.engine.files.packages import StoragePath, file_system
from airflow_provider_polar.engine.files.uris import PREFIX_LISTING
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarDestinationError

_BLOCK = 1 << 20


class _ObjectStore:
    """An object store: what its file system puts is there at once and whole."""

    # Azure copies in the background: for a moment the object may be shorter.
    copy_patience = 60.0

    def __init__(self, fs: Any, protocols: Set[str]) -> None:
        self._fs = fs
        self._lists_prefixes = not PREFIX_LISTING.isdisjoint(protocols)

    def write(self, path: str, content: bytes) -> None:
        self._fs.pipe_file(path, content)

    def upload(self, local: str, path: str) -> None:
        self._fs.put_file(local, path)

    def create(self, local: str, path: str) -> None:
        self._fs.put_file(local, path, mode="create")

    def copy(self, source: str, target: str) -> None:
        self._fs.cp_file(source, target)

    def remove_empty(self, path: str) -> None:
        """There are no directories."""

    def listed(self, parent: str, start: str) -> Iterable[dict[str, Any]]:
        """Objects in a directory, at least those whose names begin with ``start``."""
        if self._lists_prefixes:
            found: dict[str, dict[str, Any]] = self._fs.find(parent, prefix=start, detail=True)
            return found.values()
        return cast(Iterable[dict[str, Any]], self._fs.ls(parent, detail=True))


class _Disk:
    """A disk: a file takes its name once it is written, and directories are made and removed."""

    copy_patience = 0.0

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def write(self, path: str, content: bytes) -> None:
        with self._replacing(path) as between, open(between, "wb") as file:
            file.write(content)

    def upload(self, local: str, path: str) -> None:
        with self._replacing(path) as between:
            shutil.copyfile(local, between)

    def create(self, local: str, path: str) -> None:
        with self._replacing(path) as between:
            shutil.copyfile(local, between)
            try:
                # A link, unlike a file that is renamed, never takes the place of another one.
                os.link(between, path)
            except FileExistsError:
                raise
            except OSError:  # of a disk that has no links
                if os.path.exists(path):
                    raise FileExistsError(path) from None

    def copy(self, source: str, target: str) -> None:
        with self._replacing(target) as between:
            try:
                os.link(source, between)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(source, between)

    def remove_empty(self, path: str) -> None:
        with suppress(OSError):
            os.rmdir(path)

    def listed(self, parent: str, _start: str) -> Iterable[dict[str, Any]]:
        return cast(Iterable[dict[str, Any]], self._fs.ls(parent, detail=True))

    @contextmanager
    def _replacing(self, path: str) -> Iterator[str]:
        """A file of this process alone that takes a name on the disk once it is written."""
        between = f"{path}.{uuid.uuid4().hex[:12]}.tmp"
        _make_folder(os.path.dirname(between))
        try:
            yield between
            os.replace(between, path)
        finally:
            # It is still there after a failure, and where both names were links to one file already.
            with suppress(OSError):
                os.remove(between)


class Directory:
    """One directory, by names relative to it (``a.jsonl``, ``_incomplete/b.jsonl``). Thread-safe as fsspec is.

    :param path: ``ObjectStoragePath`` of the directory; need not exist.
    :raises PolarConfigurationError: the package that serves its scheme is not installed.
    :raises PolarDestinationError: its file system cannot be had, as with a wrong connection.
    """

    def __init__(self, path: StoragePath) -> None:
        self.url = str(path).rstrip("/")
        with self._saying("use", ""):
            self._fs = file_system(path, self.url)
            self._root = path.path.rstrip("/")
            protocol = self._fs.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._store = _Disk(self._fs) if protocols & {"file", "local"} else _ObjectStore(self._fs, protocols)

    def url_of(self, name: str) -> str:
        """An object's full path as text, the connection id included as ``ObjectStoragePath`` writes it."""
        return f"{self.url}/{name}"

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _saying(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except PolarConfigurationError:
            raise
        except Exception as error:  # stores raise their own SDKs' errors
            where = self.url_of(name) if name else self.url
            advice = "a retry helps if the store was away for a moment; otherwise check path and permissions"
            raise PolarDestinationError(
                f"cannot {doing} {where}: {type(error).__name__}: {error} ({advice})"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Puts a small object, replacing what is there in one step."""
        with self._saying("write", name):
            self._store.write(self._at(name), content)

    def upload(self, local: str, name: str) -> None:
        """Puts a local file whole; it is seen only once it is complete."""
        with self._saying("write", name):
            size = os.path.getsize(local)
            self._store.upload(local, self._at(name))
        self._expect_size(name, size)

    def create(self, local: str, name: str) -> bool:
        """Puts a local file whole, unless there is an object of that name; of two at once, one does.

        :return: whether it was put.
        """
        with self._saying("write", name):
            size = os.path.getsize(local)
            try:
                self._store.create(local, self._at(name))
            except FileExistsError:
                return False
        self._expect_size(name, size)
        return True

    def download(self, name: str, local: str) -> bool:
        """Copies an object into a local file.

        :return: whether there is such an object.
        """
        with self._saying("read", name), suppress(FileNotFoundError):
            self._forget()
            self._fs.get_file(self._at(name), local)
            return True
        return False

    def copy(self, source: str, target: str, size: int) -> None:
        """Gives an object a second name; on a disk that is a link, where it has such."""
        with self._saying("write", target):
            self._store.copy(self._at(source), self._at(target))
        self._expect_size(target, size)

    def move(self, source: str, target: str, size: int) -> None:
        """Gives an object another name, the first one going last."""
        self.copy(source, target, size)
        self.remove(source)

    def _expect_size(self, name: str, size: int) -> None:
        deadline = time.monotonic() + self._store.copy_patience
        while (found := self.size(name)) != size:
            if time.monotonic() >= deadline:
                raise PolarDestinationError(f"wrote {size} bytes to {self.url_of(name)}, but it holds {found}")
            time.sleep(0.2)

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none."""
        with self._saying("look at", name), suppress(FileNotFoundError):
            self._forget()
            return int(self._fs.info(self._at(name))["size"])
        return None

    def sha256(self, name: str) -> str | None:
        """The SHA-256 of an object's bytes, hexadecimal; None where there is none."""
        with self._saying("read", name), suppress(FileNotFoundError):
            self._forget()
            with self._fs.open(self._at(name), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def read(self, name: str, end: int | None = None) -> bytes | None:
        """An object's content, or its first bytes up to ``end``; None where there is none."""
        with self._saying("read", name), suppress(FileNotFoundError):
            content: bytes = self._fs.cat_file(self._at(name), end=end)
            return content
        return None

    def blocks(self, name: str) -> Iterator[bytes]:
        """An object's content in blocks of a megabyte; none where there is no such object."""
        with self._saying("read", name), suppress(FileNotFoundError):
            self._forget()
            with self._fs.open(self._at(name), "rb") as file:
                while block := file.read(_BLOCK):
                    yield block

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with self._saying("remove", name), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def remove_empty(self, name: str) -> None:
        """Removes a directory from a disk if nothing is in it; object stores have none."""
        with self._saying("remove", name):
            self._store.remove_empty(self._at(name))

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects directly in ``prefix``'s directory whose names begin with it, with their bytes, by name."""
        parent, _, start = self._at(prefix).rpartition("/")
        found: dict[str, int] = {}
        with self._saying("list", prefix), suppress(FileNotFoundError):
            self._forget()
            listed = self._store.listed(parent, start)
            found = {info["name"]: int(info["size"]) for info in listed if info["type"] == "file"}
        inside = prefix.rpartition("/")[0]
        lasts = {self._last(parent, path): size for path, size in found.items()}
        names = sorted(name for name in lasts if name.startswith(start) and "/" not in name and name)
        return {f"{inside}/{name}" if inside else name: lasts[name] for name in names}

    def _last(self, parent: str, path: str) -> str:
        """A listed path relative to the directory listed; empty for one that is not in it."""
        strip: Callable[[str], str] = self._fs._strip_protocol
        root = strip(parent).rstrip("/") + "/"
        return strip(path)[len(root) :] if strip(path).startswith(root) else ""

    def _forget(self) -> None:
        # Listings are cached in the process; another worker may have written since.
        self._fs.invalidate_cache()


def _make_folder(path: str) -> None:
    for _ in range(5):
        # Another window's export may have just removed the parent, empty at that moment.
        with suppress(FileNotFoundError):
            os.makedirs(path, exist_ok=True)
            return
    os.makedirs(path, exist_ok=True)
