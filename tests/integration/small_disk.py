"""A disk that is soon full, and can be made larger."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory."""

    path: Path

    def resize(self, megabytes: int) -> None:
        """Makes it larger or smaller."""
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.path)], check=True)

    def free(self) -> int:
        """Bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """A new one of 64 MB; what asks for it is skipped where the tests may not mount."""
    # Not below pytest's own folder, which is the tests' user's alone: servers run as another one.
    path = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=777", "tmpfs", str(path)]
    try:
        if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("the tests may not mount a small file system: no disk is filled here")
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
        path.rmdir()
