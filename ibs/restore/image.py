"""Where a disk image is restored to: a regular file, a block device, or a stream.

Used by `client.restore`; all calls block. A regular file is sparse and bears the suffix `.ibs-restore-incomplete`
until it is whole. A device is opened exclusively, must be large enough, and gets its zeros from the kernel where
that can. A stream is written in order. Errors come out as DestinationNotWritable.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, Protocol

from ibs.core import limits
from ibs.errors import ConflictError, DestinationNotWritable
from ibs.restore.content import write_pieces
from ibs.restore.tree.folders import Overwrite
from ibs.restore.tree.safe_path import rename_exclusive
from ibs.restore.trouble import destination_error

SUFFIX: Final = ".ibs-restore-incomplete"
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_ZERO_RANGE: Final = 0x10
_libc: Final = ctypes.CDLL(None, use_errno=True)
_ZEROS: Final = memoryview(bytes(limits.MIB))
Part = tuple[int, memoryview]


class ImageTarget(Protocol):
    """One image being written. `sequential`: parts must come in order, with zeros for every gap."""

    sequential: bool
    shown: str

    def write(self, parts: Sequence[Part], /) -> int:
        """Write (offset, bytes) parts; return the bytes that really went out. Raises DestinationNotWritable."""
        ...

    def zero(self, at: int, length: int, /) -> None:
        """Make a stretch read as zeros. Raises DestinationNotWritable."""
        ...

    def finish(self) -> None:
        """All is written: make it whole. Raises DestinationNotWritable, ConflictError."""
        ...

    def abandon(self) -> str:
        """Let go of it; return what people should know about what was left behind."""
        ...


def open_image(
    target: str, *, size: int, overwrite: Overwrite, archived_ns: int, output_fd: int, default_name: str
) -> ImageTarget:
    """Get `target` ready for an image of `size` bytes; `-` writes to `output_fd`; a folder gets `default_name` in it.

    `archived_ns` is the time of the snapshot, for `if-newer`. Raises DestinationNotWritable, ConflictError.
    """
    if target == "-":
        return ImageStream(output_fd)
    try:
        found = os.stat(target)
        if stat.S_ISDIR(found.st_mode):
            target = os.path.join(target, default_name)
            found = os.stat(target)
    except FileNotFoundError:
        return ImageFile(target, size=size, overwrite=overwrite, exists=os.path.islink(target))
    except OSError as error:
        raise destination_error(target, error) from error
    if overwrite is Overwrite.NEVER or (overwrite is Overwrite.IF_NEWER and archived_ns <= found.st_mtime_ns):
        raise ConflictError(
            f"{target} exists and was left as it is", hint="restore elsewhere, or say --overwrite always"
        )
    if stat.S_ISBLK(found.st_mode):
        return ImageDevice(target, size=size)
    if not stat.S_ISREG(found.st_mode):
        raise DestinationNotWritable(target, "it is neither a regular file nor a block device")
    return ImageFile(target, size=size, overwrite=overwrite, exists=True)


class ImageFile:
    """A regular file, new or in the place of another one. Never writes through a link of that name."""

    sequential = False

    def __init__(self, path: str, *, size: int, overwrite: Overwrite, exists: bool) -> None:
        self.shown = path
        self._overwrite = overwrite
        folder, name = os.path.split(path)
        self._name = os.fsencode(name)
        self._partial = os.fsencode(name + SUFFIX)
        if exists and os.path.islink(path):
            raise DestinationNotWritable(path, "it is a symbolic link", hint="name the file or device it leads to")
        with _translated(path):
            self._folder_fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._fd = -1
            try:
                _refuse_if_full(self._folder_fd, path)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                self._fd = os.open(self._partial, flags, 0o600, dir_fd=self._folder_fd)
                self._lock()
                os.ftruncate(self._fd, 0)
                os.ftruncate(self._fd, size)
            except BaseException:
                self.close()
                raise

    def _lock(self) -> None:
        """Only one restore writes a partial image; one that was left behind is started anew."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another restore is writing {self.shown}", hint="wait for it, or restore elsewhere"
            ) from None

    def write(self, parts: Sequence[Part]) -> int:
        """See `ImageTarget`; zero runs stay holes."""
        with _translated(self.shown):
            return write_pieces(self._fd, parts, sparse=True)

    def zero(self, at: int, length: int) -> None:
        """Nothing to do: the file was made of one hole."""

    def finish(self) -> None:
        """Under its own name. *Durability*: what the kernel was given; a device is synced, a file is not."""
        with closing(self), _translated(self.shown):
            try:
                rename_exclusive(self._folder_fd, self._partial, self._name)
            except FileExistsError:
                if self._overwrite is Overwrite.NEVER:
                    raise ConflictError(
                        f"{self.shown} appeared meanwhile and was left as it is",
                        hint=f"the image is whole under {self.shown}{SUFFIX}",
                    ) from None
                os.rename(self._partial, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)

    def abandon(self) -> str:
        """The partial file stays under its marked name."""
        self.close()
        return f"what was restored is in {self.shown}{SUFFIX}"

    def close(self) -> None:
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1


class ImageDevice:
    """A block device that nothing else has open."""

    sequential = False

    def __init__(self, path: str, *, size: int) -> None:
        self.shown = path
        with _translated(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
        room = os.lseek(self._fd, 0, os.SEEK_END)
        if room < size:
            os.close(self._fd)
            raise DestinationNotWritable(path, f"it has {room} bytes, the image {size}", hint="use a larger device")
        self._modes = [_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE | _KEEP_SIZE]

    def write(self, parts: Sequence[Part]) -> int:
        """See `ImageTarget`; everything is written, as old content may lie below."""
        with _translated(self.shown):
            return write_pieces(self._fd, parts, sparse=False)

    def zero(self, at: int, length: int) -> None:
        """By the kernel (discard that reads as zeros, or write-zeroes), else by writing zeros."""
        with _translated(self.shown):
            while self._modes:
                if _fallocate(self._fd, self._modes[0], at, length):
                    return
                self._modes = self._modes[1:]
            while length:
                done = os.pwrite(self._fd, _ZEROS[: min(length, len(_ZEROS))], at)
                at, length = at + done, length - done

    def finish(self) -> None:
        """On the device when it returns."""
        with closing(self), _translated(self.shown):
            os.fsync(self._fd)

    def abandon(self) -> str:
        """A device cannot be marked; the message has to."""
        self.close()
        return f"{self.shown} is overwritten in part"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ImageStream:
    """An open descriptor that takes bytes in order, such as a pipe. It is not closed here."""

    sequential = True

    def __init__(self, fd: int) -> None:
        self.shown = "standard output"
        self._fd = fd

    def write(self, parts: Sequence[Part]) -> int:
        """See `ImageTarget`."""
        total = 0
        with _translated(self.shown):
            for _, data in parts:
                total += len(data)
                while len(data):
                    data = data[os.write(self._fd, data) :]
        return total

    def zero(self, _at: int, length: int) -> None:
        """Zeros are bytes like others in a stream."""
        with _translated(self.shown):
            while length:
                length -= os.write(self._fd, _ZEROS[: min(length, len(_ZEROS))])

    def finish(self) -> None:
        """Nothing: the owner of the descriptor closes it."""

    def abandon(self) -> str:
        return "the output is incomplete"


def _fallocate(fd: int, mode: int, at: int, length: int) -> bool:
    """`fallocate(2)`; False where the device or kernel has no such thing. Raises OSError."""
    done: int = _libc.fallocate64(ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(at), ctypes.c_int64(length))
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV):
        return False
    raise OSError(number, os.strerror(number))


def _refuse_if_full(fd: int, path: str) -> None:
    figures = os.fstatvfs(fd)
    if figures.f_flag & os.ST_RDONLY:
        raise DestinationNotWritable(path, "read-only file system")
    if figures.f_blocks and not (figures.f_bfree if os.geteuid() == 0 else figures.f_bavail):
        raise DestinationNotWritable(path, "no space left (bytes)")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise destination_error(path, error) from error
