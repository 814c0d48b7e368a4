"""Where a tool keeps its repository: a file system of its own where possible, so that none inherits another's wear."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

INODES = 2_000_000


class Place:
    """A fresh ext4 on a sparse file, mounted through a loop device; a fresh folder where that cannot be had."""

    def __init__(self, folder: Path, *, size_gib: int, own_file_system: bool) -> None:
        self._image = folder.with_name(folder.name + ".ext4")
        self.folder = folder
        self.mounted = False
        self.remove()
        folder.mkdir(parents=True)
        if own_file_system:
            self._mount(size_gib)

    def _mount(self, size_gib: int) -> None:
        with self._image.open("wb") as image:
            image.truncate(size_gib << 30)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-N", str(INODES), "-E", lazy, str(self._image)], check=True, capture_output=True
        )
        subprocess.run(
            ["mount", "-o", "loop,noatime", str(self._image), str(self.folder)], check=True, capture_output=True
        )
        self.mounted = True

    def remove(self) -> None:
        """Unmount and delete everything; also what an earlier run left here."""
        if os.path.ismount(self.folder):
            done = subprocess.run(["umount", str(self.folder)], capture_output=True, text=True, check=False)
            if done.returncode:  # somebody still looks at it: the kernel lets go of it when he is done
                subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
        self.mounted = False
        shutil.rmtree(self.folder, ignore_errors=True)
        self._image.unlink(missing_ok=True)


def why_no_file_systems(work: Path) -> str:
    """Why tools cannot have file systems of their own here; "" when they can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [name for name in ("mkfs.ext4", "mount", "umount") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}"
    try:
        Place(work / "try", size_gib=1, own_file_system=True).remove()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        Place(work / "try", size_gib=1, own_file_system=False).remove()
        return said.decode(errors="replace").strip().splitlines()[0]
    return ""
