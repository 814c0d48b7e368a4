"""The file that marks a target as incomplete, from the first byte written to the last.

Used by `target` and by `client.restore`. It lies in the root of the target and says in JSON which snapshot was being
restored, why it ended, and what is missing. Its space is taken at the start, so that it can be written on a full disk;
its lock keeps two restores out of one target; its nonce tells a later run which temporary files to remove.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from ibs.core import limits
from ibs.errors import ConflictError

MARKER_NAME: Final = b".ibs-restore-incomplete"
MARKER_BYTES: Final = 64 * limits.KIB
_PATHS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class MarkerState:
    """What an earlier, unfinished restore left. `began_empty`: everything in the target is its own."""

    snapshot: str = ""
    archive: str = ""
    nonce: str = ""
    began_empty: bool = False


class Marker:
    """The open, locked marker of a running restore."""

    def __init__(self, fd: int, folder_fd: int, earlier: MarkerState | None) -> None:
        self._fd = fd
        self._folder_fd = folder_fd
        self.earlier = earlier
        self._facts: dict[str, Any] = {}

    @classmethod
    def create(cls, folder_fd: int, target: str) -> Self:
        """Create or take over the marker. Raises ConflictError when another restore holds it, OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(MARKER_NAME, flags, 0o600, dir_fd=folder_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(fd, folder_fd, _read(fd))
        except BlockingIOError:
            os.close(fd)
            raise ConflictError(
                f"another restore is writing into {target}", hint="wait for it, or restore elsewhere"
            ) from None
        except BaseException:
            os.close(fd)
            raise

    def begin(self, *, snapshot: str, archive: str, nonce: str, began_empty: bool, started: str) -> None:
        """Write the first version, padded to its full size. Raises OSError."""
        self._facts = {
            "format": 1,
            "snapshot": snapshot,
            "archive": archive,
            "nonce": nonce,
            "began_empty": began_empty,
            "started": started,
        }
        self._write({"state": "running", "hint": "run the same restore again to complete it", "missing": []})

    def incomplete(self, *, state: str, why: str, missing: Sequence[dict[str, str]], count: int, after: str) -> None:
        """State what is missing: entries by name (the first of `count`), and all after `after` in archive order.

        `after` is "" when the archive was worked through to its end. Never raises: the marker is there already.
        """
        kept = list(missing[:_PATHS_MAX])
        with suppress(OSError):
            while not self._write(
                {"state": state, "message": why, "missing_count": count, "everything_after": after, "missing": kept}
            ):
                if not kept:
                    return
                kept = kept[: len(kept) // 2]

    def remove(self) -> None:
        """The restore is whole."""
        with suppress(FileNotFoundError):
            os.unlink(MARKER_NAME, dir_fd=self._folder_fd)

    def close(self) -> None:
        """Let go of the lock; the file stays unless it was removed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, news: dict[str, Any]) -> bool:
        """In place, so that no new space is needed; False when it does not fit."""
        text = json.dumps({**self._facts, **news}, indent=1).encode() + b"\n"
        if len(text) > MARKER_BYTES:
            return False
        os.pwrite(self._fd, text.ljust(MARKER_BYTES), 0)
        return True


def _read(fd: int) -> MarkerState | None:
    """What is in the marker already; an unreadable one tells nothing."""
    data = os.pread(fd, MARKER_BYTES, 0)
    if not data.strip():
        return None
    try:
        found = json.loads(data)
        return MarkerState(
            snapshot=str(found["snapshot"]),
            archive=str(found["archive"]),
            nonce=_plain(str(found["nonce"])),
            began_empty=found["began_empty"] is True,
        )
    except (ValueError, KeyError, TypeError):
        return MarkerState()


def _plain(nonce: str) -> str:
    """A nonce as we make them, or nothing: it becomes part of names to be deleted."""
    return nonce if len(nonce) == 16 and all(char in "0123456789abcdef" for char in nonce) else ""
