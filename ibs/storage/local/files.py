"""Small file work by directory descriptor: no path is resolved twice, no symbolic link is followed.

Used inside `storage.local` only. Functions raise OSError as the kernel gives it; `trouble.py` translates
at the store's border. None of them is cancellable; none leaves a temporary file behind when it raises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence

from ibs.errors import FormatError
from ibs.storage.hooks import no_hook
from ibs.storage.local.layout import DIR_MODE, FILE_MODE, TEMPORARY

Buffer = bytes | bytearray | memoryview

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_dir(name: str, *, dir_fd: int | None = None) -> int:
    """Descriptor of a folder. The caller closes it."""
    return os.open(name, _FOLDER, dir_fd=dir_fd)


def open_dirs(parts: Sequence[str], *, dir_fd: int) -> int:
    """Descriptor of a folder several levels down, each level opened by itself. The caller closes it."""
    held = os.dup(dir_fd)
    try:
        for part in parts:
            below = open_dir(part, dir_fd=held)
            os.close(held)
            held = below
    except BaseException:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def opened(parts: Sequence[str], *, dir_fd: int) -> Iterator[int]:
    """`open_dirs` for the length of a `with`."""
    held = open_dirs(parts, dir_fd=dir_fd)
    try:
        yield held
    finally:
        os.close(held)


def make_dir(name: str, *, dir_fd: int) -> bool:
    """Make a folder (0700); False when it was there already."""
    try:
        os.mkdir(name, DIR_MODE, dir_fd=dir_fd)
    except FileExistsError:
        return False
    return True


def write_all(fd: int, data: Buffer) -> None:
    """Write every byte; the kernel may take fewer than offered."""
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(fd, left) :]


def write_new(name: str, data: Buffer, *, dir_fd: int, durable: bool) -> None:
    """A new file with `data`; FileExistsError when the name is taken. Nothing stays behind on failure.

    *Durability*: with `durable` its bytes are, its name is not until the folder is flushed.
    """
    fd = os.open(name, _NEW, FILE_MODE, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        unlink_quietly(name, dir_fd=dir_fd)
        raise


def temporary_name(name: str) -> str:
    """A name no other writer uses, beside `name`, recognisable as litter after a crash."""
    return f"{TEMPORARY}{secrets.token_hex(6)}-{name}"


def replace(name: str, data: Buffer, *, dir_fd: int, step: Callable[[str], None] = no_hook) -> None:
    """Write or overwrite a file so that readers see the old or the new one, whole.

    `step` is called with `temp`, `rename` and `done` before the temporary file, the rename, and the last flush.
    *Durability*: when it returns the new one is durable, name and bytes.
    """
    temporary = temporary_name(name)
    step("temp")
    fd = os.open(temporary, _NEW, FILE_MODE, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
            step("rename")
            os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            unlink_quietly(temporary, dir_fd=dir_fd)
            raise
        step("done")
        os.fsync(dir_fd)
        # XFS: flushing a folder of a file system that has shut down succeeds; flushing a file tells the truth.
        os.fsync(fd)
    finally:
        os.close(fd)


def open_file(name: str, *, dir_fd: int) -> int:
    """Descriptor of a regular file for reading; the caller closes it. Raises FormatError for anything else."""
    fd = os.open(name, _READ, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FormatError(f"{name} is not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_all(fd: int, size: int, offset: int = 0) -> bytes:
    """Up to `size` bytes from `offset`; fewer when the file ends earlier."""
    first = os.pread(fd, size, offset)
    if len(first) == size or not first:
        return first
    pieces, have = [first], len(first)
    while have < size and (piece := os.pread(fd, size - have, offset + have)):
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


def read_part(name: str, offset: int, count: int, *, dir_fd: int) -> bytes:
    """Up to `count` bytes of a regular file from `offset`; fewer at its end. Raises FormatError, OSError."""
    fd = open_file(name, dir_fd=dir_fd)
    try:
        return read_all(fd, max(0, min(count, os.fstat(fd).st_size - offset)), offset)
    finally:
        os.close(fd)


def read_file(name: str, *, dir_fd: int, limit: int) -> bytes:
    """A whole small file. Raises FormatError when it is longer than `limit` bytes or not regular."""
    fd = open_file(name, dir_fd=dir_fd)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise FormatError(f"{name} has {size} bytes, more than the {limit} allowed")
        return read_all(fd, size)
    finally:
        os.close(fd)


def exists(name: str, *, dir_fd: int) -> bool:
    """Whether the name is there, whatever it is."""
    return size_of(name, dir_fd=dir_fd) is not None


def size_of(name: str, *, dir_fd: int) -> int | None:
    """Bytes of what has this name; None when nothing has."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def names(dir_fd: int) -> list[str]:
    """Names in a folder, sorted."""
    return sorted(os.listdir(dir_fd))


def folders(dir_fd: int) -> list[str]:
    """Names of the folders in a folder, sorted; links to folders are not among them."""
    with os.scandir(dir_fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def sync_file(name: str, *, dir_fd: int) -> None:
    """Flush a file's bytes, not its name."""
    fd = open_file(name, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unlink_quietly(name: str, *, dir_fd: int) -> bool:
    """Remove a file on the way out of a failure; False when it could not be (what it leaves is removed at open)."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        return False
    return True


def unlink_if_there(name: str, *, dir_fd: int) -> bool:
    """Remove a file; False when it was not there."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def remove_dir(name: str, *, dir_fd: int) -> None:
    """Remove a folder and the files directly in it; nothing happens when it is not there.

    A folder inside it is left, and OSError (ENOTEMPTY) says so.
    """
    try:
        held = open_dir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        for each in os.listdir(held):
            try:
                os.unlink(each, dir_fd=held)
            except IsADirectoryError as error:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), each) from error
    finally:
        os.close(held)
    os.rmdir(name, dir_fd=dir_fd)
