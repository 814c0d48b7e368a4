"""Whose store this is: the lock, the owner with its fence, and the generation (PROTOCOLS 3-4).

Used inside `storage.local`. `.ibs/lock` is flocked for as long as the store is open and never replaced, so two
processes can never both hold it. `.ibs/owner` catches what a lock cannot: another server that mounts the same disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ibs.core import limits
from ibs.errors import DatastoreOffline, FormatError
from ibs.storage.local import files
from ibs.storage.local.layout import (
    GENERATION,
    IDENTITY,
    LOCK,
    OWNER,
    Generation,
    Identity,
    Owner,
    decode_record,
    encode_record,
)


def read_identity(meta_fd: int) -> Identity:
    """Raises FileNotFoundError when this is no store (or half made); FormatError."""
    data = files.read_file(IDENTITY, dir_fd=meta_fd, limit=limits.STORE_RECORD_BYTES_MAX)
    return decode_record(data, Identity, IDENTITY)


def read_owner(meta_fd: int) -> Owner:
    """Raises OSError, FormatError."""
    return decode_record(files.read_file(OWNER, dir_fd=meta_fd, limit=limits.STORE_RECORD_BYTES_MAX), Owner, OWNER)


def read_generation(meta_fd: int) -> Generation:
    """Raises OSError, FormatError."""
    data = files.read_file(GENERATION, dir_fd=meta_fd, limit=limits.STORE_RECORD_BYTES_MAX)
    return decode_record(data, Generation, GENERATION)


def write_owner(meta_fd: int, owner: Owner) -> None:
    """*Durability*: durable when it returns."""
    files.replace(OWNER, encode_record(owner), dir_fd=meta_fd)


def write_generation(meta_fd: int, generation: Generation) -> None:
    """*Durability*: durable when it returns."""
    files.replace(GENERATION, encode_record(generation), dir_fd=meta_fd)


def boot_id() -> str:
    """The kernel's identity of this boot; empty when it has none (then every stop counts as unclean)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def take_lock(meta_fd: int, store: str) -> int:
    """Descriptor that holds the lock until it is closed. Raises DatastoreOffline when another process holds it."""
    try:
        fd = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=meta_fd)
    except FileNotFoundError as error:
        # Never made again: two servers, each with a lock file of its own, would both believe to be alone.
        raise DatastoreOffline(store, "damaged: .ibs/lock is missing") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise DatastoreOffline(store, "in use by another server on this host") from error
        raise
    return fd


def claim(meta_fd: int, store: str, server: str, *, takeover: bool) -> Owner:
    """Become the owner of a store that has none, or by `takeover` of another's; the caller holds the lock.

    Each change raises the fence. Raises DatastoreOffline when another server owns it. *Durability*: durable.
    """
    owner = read_owner(meta_fd)
    if owner.server == server and not takeover:
        return owner
    if owner.server not in ("", server) and not takeover:
        raise DatastoreOffline(
            store, f"owner elsewhere: it belongs to server {owner.server}; adopt it with --takeover if that one is gone"
        )
    mine = Owner(server=server, fence=owner.fence + 1)
    write_owner(meta_fd, mine)
    return mine


def check_fence(meta_fd: int, store: str, mine: Owner) -> None:
    """Raises DatastoreOffline when the owner record is not ours any more. Read again before each commit."""
    try:
        now = read_owner(meta_fd)
    except (FileNotFoundError, FormatError) as error:
        raise DatastoreOffline(store, "damaged: .ibs/owner cannot be read") from error
    if now != mine:
        raise DatastoreOffline(store, f"owner elsewhere: server {now.server} took it over (fence {now.fence})")
