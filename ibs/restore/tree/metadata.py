"""Owner, mode, attributes and times of restored entries, in an order that is safe to interrupt.

Used by the writer and the folder keeper of `restore.tree`. The order: owner, then ordinary extended attributes (an
unprivileged owner of a read-only file may not set them later), then mode with set-user-id only where the owner is
right, then ACLs (they depend on the mode), then capabilities (a change of owner drops them), then times. What
cannot be set is reported and never stops a restore.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from ibs.core.tree import Entry
from ibs.restore.tree.report import Reason, RestoreReport
from ibs.restore.tree.safe_path import Folder
from ibs.restore.trouble import is_unusable, words

ACL_ACCESS: Final = b"system.posix_acl_access"
ACL_DEFAULT: Final = b"system.posix_acl_default"
CAPABILITY: Final = b"security.capability"
_ID_MAX: Final = 0xFFFF_FFFE  # the next one tells the kernel to leave the owner alone


class MetadataWriter:
    """Applies the metadata of entries. Thread-safe; raises OSError only for a target that is full or broken."""

    def __init__(self, report: RestoreReport) -> None:
        self._report = report

    def to_descriptor(self, fd: int, entry: Entry, path: bytes | Folder) -> None:
        """Everything of `entry` onto an open file or folder of ours. `path` is for the report
        (a folder builds its own only when there is something to say)."""
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
            self._own(fd, entry, path)
            found = os.fstat(fd)
        late = self._early_xattrs(fd, entry, path) if entry.xattrs else ()
        mode = self._allowed_mode(entry, found, path)
        if stat.S_IMODE(found.st_mode) != mode or mode & (stat.S_ISUID | stat.S_ISGID):
            self._set_mode(fd, mode, path)
        for name, value in late:
            self._set_xattr(fd, name, value, path)
        self._set_times(fd, entry, path)

    def to_node(self, node_fd: int, entry: Entry, path: bytes) -> None:
        """Everything of `entry` onto a symbolic link, device, fifo or socket open with O_PATH | O_NOFOLLOW.

        The magic link of such a descriptor leads to that very node, a symbolic link included, whatever has meanwhile
        become of its name.
        """
        node = b"/proc/self/fd/%d" % node_fd
        self._own(node, entry, path)
        late = self._early_xattrs(node, entry, path) if entry.xattrs else ()
        found = os.fstat(node_fd)
        if not stat.S_ISLNK(found.st_mode):
            self._set_mode(node, self._allowed_mode(entry, found, path), path)
        for attribute, value in late:
            self._set_xattr(node, attribute, value, path)
        self._set_times(node, entry, path)

    def strip_acls(self, fd: int, *, keep: Entry | None = None) -> None:
        """Remove ACLs that a file or folder inherited from a folder that was there before."""
        kept = {name for name, _ in keep.xattrs} if keep is not None else set()
        for name in (ACL_ACCESS, ACL_DEFAULT):
            if name not in kept:
                with suppress(OSError):
                    os.removexattr(fd, name)

    def _own(self, what: int | bytes, entry: Entry, path: bytes | Folder) -> None:
        if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX):
            self._report.add(Reason.OWNER, path, f"{entry.uid}:{entry.gid} is not valid")
            return
        try:
            os.chown(what, entry.uid, entry.gid)
        except OSError as error:
            self._note(Reason.OWNER, path, f"{entry.uid}:{entry.gid}", error)
            with suppress(OSError):
                os.chown(what, -1, entry.gid)  # a user may still give a file to one of his groups

    def _allowed_mode(self, entry: Entry, found: os.stat_result, path: bytes | Folder) -> int:
        """The mode to set, without set-id bits that would serve another owner than the archived one."""
        mode = entry.mode & 0o7777
        refused = 0
        if found.st_uid != entry.uid:
            refused |= mode & stat.S_ISUID
        if found.st_gid != entry.gid:
            refused |= mode & stat.S_ISGID
        if refused:
            self._report.add(Reason.SPECIAL_BITS, path)
        return mode & ~refused

    def _set_mode(self, what: int | bytes, mode: int, path: bytes | Folder) -> None:
        try:
            os.chmod(what, mode)
            if mode & stat.S_ISGID and not os.stat(what).st_mode & stat.S_ISGID:
                self._report.add(Reason.SPECIAL_BITS, path)  # dropped silently for a group that is not ours
        except OSError as error:
            self._note(Reason.MODE, path, f"{mode:04o}", error)

    def _early_xattrs(self, what: int | bytes, entry: Entry, path: bytes | Folder) -> tuple[tuple[bytes, bytes], ...]:
        """Set what does not depend on the mode; return the rest in the order to set it."""
        late = []
        for name, value in entry.xattrs:
            if name in (ACL_ACCESS, ACL_DEFAULT, CAPABILITY):
                late.append((name, value))
            else:
                self._set_xattr(what, name, value, path)
        late.sort(key=lambda pair: pair[0] == CAPABILITY)
        return tuple(late)

    def _set_xattr(self, what: int | bytes, name: bytes, value: bytes, path: bytes | Folder) -> None:
        try:
            os.setxattr(what, name, value)
        except OSError as error:
            reason = Reason.XATTR
            if name == CAPABILITY:
                reason = Reason.CAPABILITY
            elif name in (ACL_ACCESS, ACL_DEFAULT):
                reason = Reason.ACL
            self._note(reason, path, name.decode("utf-8", "backslashreplace"), error, full_is_fatal=False)
        except ValueError:
            self._report.add(Reason.XATTR, path, "name is not valid")

    def _set_times(self, what: int | bytes, entry: Entry, path: bytes | Folder) -> None:
        try:
            os.utime(what, ns=(entry.mtime_ns, entry.mtime_ns))
        except (OSError, OverflowError) as error:
            self._note(Reason.TIMES, path, str(entry.mtime_ns), error)

    def _note(
        self,
        reason: Reason,
        path: bytes | Folder,
        what: str,
        error: OSError | OverflowError,
        *,
        full_is_fatal: bool = True,
    ) -> None:
        """Report it; let an error that means the whole target is unusable through.

        Attributes have a space of their own: ENOSPC there says nothing about the file system.
        """
        if not isinstance(error, OSError):
            self._report.add(reason, path, f"{what}: out of range")
            return
        if is_unusable(error) and (full_is_fatal or error.errno != errno.ENOSPC):
            raise error
        self._report.add(reason, path, f"{what}: {words(error)}")
