"""Small secret files of the server's state: 0600 from their first moment, whole or absent, never followed by a link.

Used by `security` only; everything here blocks and is called at start or through the pool.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from ibs.core import limits
from ibs.errors import FailedError
from ibs.log import get_logger

_log = get_logger("api")


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path`, replacing what was there. *Durability*: kept when this returns. Raises FailedError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        hint = "check the state folder's owner and free space"
        raise FailedError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def read_private(path: Path) -> bytes | None:
    """The file's content, None when there is none. One that others may read is closed to them, and a warning logged.

    Raises FailedError when it cannot be read, is no plain file, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FailedError(
            f"cannot read {path}: {error.strerror}", hint="it must be a file of the server's user"
        ) from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limits.PRIVATE_FILE_BYTES_MAX:
            raise FailedError(f"{path} is not a file of ours", hint="move it away, or bring the right one back")
        if stat.S_IMODE(facts.st_mode) & 0o077:
            _log.warning("a secret file was open to others; it is closed now", path=str(path))
            with suppress(PermissionError):  # of another user, who let us read it
                os.fchmod(descriptor, 0o600)
        return os.read(descriptor, limits.PRIVATE_FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
