"""Making a snapshot visible: chunks durable, then its files, then its manifest (PROTOCOLS 1, DESIGN P1, P2, P4).

Used inside `storage.local`. Staged files are hard-linked into the snapshot and taken from staging only when the
manifest is durable, so that a publication that fails, or is killed, can be tried again from the same session.
Stopped before the manifest has its name, the folder does not count and goes when the store is opened next.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.storage.local import files
from ibs.storage.local.barrier import Barrier
from ibs.storage.local.held import Held
from ibs.storage.local.layout import MANIFEST, check_file_name, parse_folder
from ibs.storage.local.snapshots import make_folders


@dataclass(slots=True)
class Publisher:
    """The publishing end of one store. Thread-safe for different folders; `engine` serialises those of one group."""

    held: Held
    barrier: Barrier
    check_owner: Callable[[], None]

    def publish(self, folder: str, contents: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        """See ChunkStore.publish. A staged file is named `SESSION/FILE`.

        *Durability*: chunks and snapshot are durable and visible when it returns.
        """
        self._check(folder, contents, last)
        group, _, name = folder.rpartition("/")
        with self.held.writing("publishing a snapshot"):
            self.check_owner()
            self.barrier.run()
            with make_folders(self.held, group.split("/")) as parent:
                self._make_room_for(folder, name, parent)
                os.mkdir(name, 0o700, dir_fd=parent)
                try:
                    self._fill(name, parent, contents, last)
                except BaseException:
                    self._undo(name, parent)
                    raise
            self._take_from_staging(contents)

    def _check(self, folder: str, contents: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        if parse_folder(folder)[2] is None:
            raise UsageError(f"{folder} is not a snapshot")
        for name, content in contents.items():
            check_file_name(name)
            if isinstance(content, str):
                session, _, staged = content.partition("/")
                check_file_name(session)
                check_file_name(staged)
        if not last or last[-1] != MANIFEST or not set(last) <= set(contents):
            raise UsageError(f"the last file of a snapshot must be its {MANIFEST}")
        if any(isinstance(contents[name], str) for name in last):
            raise UsageError("the last files of a snapshot are given by content")

    def _make_room_for(self, folder: str, name: str, parent: int) -> None:
        """Clear away what a failed publication left. Raises ConflictError when the snapshot exists."""
        if not files.exists(name, dir_fd=parent):
            return
        if files.exists(f"{name}/{MANIFEST}", dir_fd=parent):
            raise ConflictError(f"snapshot {folder} exists already")
        files.remove_dir(name, dir_fd=parent)

    def _fill(self, name: str, parent: int, contents: Mapping[str, bytes | str], last: Sequence[str]) -> None:
        held = self.held
        with files.opened([name], dir_fd=parent) as fd:
            for each, content in contents.items():
                if each not in last:
                    held.hook("publish.index")
                    self._place(each, content, fd)
            if not held.flusher.whole:
                os.fsync(fd)
            self.barrier.sync()
            os.fsync(parent)
            for each in last:
                content = contents[each]
                assert isinstance(content, bytes)  # noqa: S101 - checked before anything was written
                self._place_last(each, content, fd)

    def _place(self, name: str, content: bytes | str, folder: int) -> None:
        held = self.held
        if isinstance(content, bytes):
            files.write_new(name, content, dir_fd=folder, durable=not held.flusher.whole)
            return
        try:
            os.link(content, name, src_dir_fd=held.folders.staging, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise NotFoundError(f"staged file {content} does not exist") from error
        if held.flusher.whole:
            return
        fd = files.open_file(name, dir_fd=folder)
        try:
            held.flusher.file(fd)  # a failure is remembered: tried again, it would succeed without the lost pages
        finally:
            os.close(fd)

    def _place_last(self, name: str, content: bytes, folder: int) -> None:
        held = self.held
        held.flusher.check()  # another's flush may have failed since ours
        files.replace(name, content, dir_fd=folder, step=lambda step: held.hook(f"publish.manifest.{step}"))

    def _undo(self, name: str, parent: int) -> None:
        """Take back what was placed, the manifest first. What cannot be taken back goes at the next open."""
        with contextlib.suppress(OSError), files.opened([name], dir_fd=parent) as fd:
            files.unlink_quietly(MANIFEST, dir_fd=fd)
            os.fsync(fd)
        with contextlib.suppress(OSError):
            files.remove_dir(name, dir_fd=parent)
        self.held.room.forget()

    def _take_from_staging(self, contents: Mapping[str, bytes | str]) -> None:
        for content in contents.values():
            if isinstance(content, str):
                # A leftover link goes with its session; the snapshot is durable already.
                files.unlink_quietly(content, dir_fd=self.held.folders.staging)
