"""Gets a folder ready to be restored into, or says at once why it cannot be.

Used by `client.restore`. Everything that can be known before the first chunk is fetched is looked at here: that the
target is a folder, writable, not full, and large enough where that can be told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ibs.errors import DestinationNotWritable
from ibs.restore.tree.marker import MARKER_NAME, Marker
from ibs.restore.tree.safe_path import SafeRoot
from ibs.restore.trouble import destination_error

_PLAIN_FILE_SYSTEMS: Final = ("ext2", "ext3", "ext4", "xfs", "tmpfs", "vfat", "exfat")
"""Those that store what they are given, so that their free space can be compared with what is coming."""
_IGNORED: Final = (os.fsdecode(MARKER_NAME), "lost+found")


@dataclass(slots=True)
class Target:
    """An opened, marked target. `empty`: nothing was in it. `resumed`: an unfinished restore of the same archive,
    which began with an empty target, is being completed. `stale_nonce` names what that run left behind."""

    root: SafeRoot
    marker: Marker
    nonce: str
    empty: bool
    resumed: bool = False
    stale_nonce: str = ""

    def close(self) -> None:
        self.marker.close()
        self.root.close()


def open_target(path: str, *, snapshot: str, archive: str, nonce: str, started: str, bytes_min: int = 0) -> Target:
    """Create `path` where missing, open it, and mark it as incomplete.

    `nonce`: 16 random hex digits. `bytes_min` is what will be written at least, 0 when that is not known.
    Raises DestinationNotWritable, ConflictError.
    """
    with _translated(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        root = SafeRoot(path)
        try:
            _check_space(root.fd, path, bytes_min)
            empty = all(name in _IGNORED for name in os.listdir(root.fd))
            marker = Marker.create(root.fd, path)
            try:
                earlier = marker.earlier
                same = earlier is not None and (earlier.snapshot, earlier.archive) == (snapshot, archive)
                resumed = bool(earlier and same and earlier.began_empty)
                marker.begin(
                    snapshot=snapshot, archive=archive, nonce=nonce, began_empty=empty or resumed, started=started
                )
            except BaseException:
                marker.close()
                raise
        except BaseException:
            root.close()
            raise
    return Target(root, marker, nonce, empty, resumed and not empty, earlier.nonce if earlier else "")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise DestinationNotWritable(path, "exists and is not a folder") from error
    except OSError as error:
        raise destination_error(path, error) from error


def _check_space(fd: int, path: str, bytes_min: int) -> None:
    """Refuse what cannot end well. Raises DestinationNotWritable."""
    figures = os.fstatvfs(fd)
    if figures.f_flag & os.ST_RDONLY:
        raise DestinationNotWritable(path, "read-only file system")
    privileged = os.geteuid() == 0
    free = figures.f_bfree if privileged else figures.f_bavail
    if figures.f_blocks and free == 0:
        raise DestinationNotWritable(path, "no space left (bytes)")
    if figures.f_files and (figures.f_ffree if privileged else figures.f_favail) == 0:
        raise DestinationNotWritable(path, "no space left (inodes)")
    free_bytes = free * figures.f_frsize
    if bytes_min > free_bytes and figures.f_blocks and _file_system(fd) in _PLAIN_FILE_SYSTEMS:
        raise DestinationNotWritable(
            path, f"no space left: at least {bytes_min} bytes are coming and {free_bytes} are free"
        )


def _file_system(fd: int) -> str:
    """Type of the file system an open folder is on, "" when the kernel does not tell."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, IndexError, ValueError):
        return ""
    return ""
