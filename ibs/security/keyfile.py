"""Keyfiles: where a host keeps the root secret of its data key (contrib/docs/formats.md §1).

Used by the client's commands. Blocking; deriving the key from a passphrase takes about a second and a quarter GiB, on
purpose. Invariants: a keyfile is never overwritten unless that was asked for; it is 0600 from its first moment; what a
file states is checked before memory is spent on it; nothing secret is in `repr` or in an error.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ibs.core import limits_keys, publickey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import ROOT_BYTES, DataKeys
from ibs.core.masterkey import MasterPublic, check_public
from ibs.errors import ConflictError, FormatError, NotFoundError, RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TYPE: Final = publickey.KEYFILE_TYPE
FORMAT: Final = 1
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems say that have no hard links: EPERM on FAT (see link(2))."""
Mode = Literal["encrypt", "sign-only"]
_Line = Annotated[str, msgspec.Meta(max_length=limits_keys.KEY_TEXT_CHARS_MAX)]


class Derivation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a passphrase becomes the key that seals the root: Argon2id, one lane. `salt` is base64 of 16 bytes."""

    name: Literal["argon2id"] = "argon2id"
    salt: _Line
    operations: Annotated[int, msgspec.Meta(ge=1, le=limits_keys.ARGON_OPERATIONS_MAX)]
    memory_bytes: Annotated[int, msgspec.Meta(ge=8192, le=limits_keys.ARGON_MEMORY_BYTES_MAX)]


class Keyfile(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `root` is base64: of the root itself where `derivation` is None, else of nonce (12) and sealed root."""

    type: str = TYPE
    format: int = FORMAT
    fingerprint: _Line
    mode: Mode = "encrypt"
    comment: _Line = ""
    created: _Line = ""
    derivation: Derivation | None = None
    root: _Line
    # A later addition: who may bring this key back from snapshots (`core.masterkey`).
    master: MasterPublic | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A keyfile that was opened."""

    keys: DataKeys = field(repr=False)
    mode: Mode
    comment: str
    created: str
    has_passphrase: bool
    master: MasterPublic | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What deriving a key costs whoever tries passphrases."""

    operations: int = limits_keys.ARGON_OPERATIONS
    memory_bytes: int = limits_keys.ARGON_MEMORY_BYTES


def seal(loaded: LoadedKey, passphrase: str, *, cost: Cost | None = None) -> Keyfile:
    """The file's content; an empty passphrase leaves the root readable for whoever reads the file."""
    stated = Keyfile(
        fingerprint=hex_fingerprint(loaded.keys.fingerprint),
        mode=loaded.mode,
        comment=publickey.check_comment(loaded.comment),
        created=loaded.created,
        root="",
        master=msgspec.UNSET if loaded.master is None else loaded.master,
    )
    if not passphrase:
        return msgspec.structs.replace(stated, root=_text(loaded.keys.root))
    derivation = new_derivation(cost)
    stated = msgspec.structs.replace(stated, derivation=derivation)
    nonce = os.urandom(limits_keys.SEAL_NONCE_BYTES)
    sealed = cipher(derivation, passphrase).encrypt(nonce, loaded.keys.root, _bound(stated))
    return msgspec.structs.replace(stated, root=_text(nonce + sealed))


def open_key(file: Keyfile, passphrase: Callable[[], str]) -> LoadedKey:
    """Get the keys out; `passphrase` is asked only where there is one. Raises RefusedError, FormatError."""
    if file.derivation is None:
        root = _bytes(file.root)
    else:
        root = _unseal(file, file.derivation, passphrase())
    if len(root) != ROOT_BYTES:
        raise FormatError("the keyfile is damaged: its root has the wrong length", hint="take another copy of it")
    keys = DataKeys.from_root(root)
    if hex_fingerprint(keys.fingerprint) != file.fingerprint:
        raise FormatError(
            f"the keyfile is damaged: it states fingerprint {file.fingerprint}, and holds another key",
            hint="take another copy of it, or restore it from its paper",
        )
    master = None if file.master is msgspec.UNSET else file.master
    if master is not None:
        check_public(master)
    return LoadedKey(keys, file.mode, file.comment, file.created, file.derivation is not None, master)


def read(path: Path) -> Keyfile:
    """Raises NotFoundError, FormatError, RefusedError for a readable root in a file that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        hint = f"make one with: ironcore-backup-client key create {path}"
        raise NotFoundError(f"there is no keyfile {path}", hint=hint) from error
    except OSError as error:
        raise UsageError(f"keyfile {path} cannot be read: {error.strerror}", hint="check its owner and mode") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise FormatError(f"{path} is not a file", hint="give the keyfile itself")
        data = os.read(descriptor, limits_keys.KEYFILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    file = decode(data)
    if file.derivation is None and stat.S_IMODE(facts.st_mode) & 0o077:
        raise RefusedError(
            f"keyfile {path} has no passphrase and others may read it (mode {stat.S_IMODE(facts.st_mode):04o})",
            hint=f"chmod 600 {path}; if somebody may have read it, make a new key",
        )
    return file


def decode(data: bytes) -> Keyfile:
    """Raises FormatError."""
    if len(data) > limits_keys.KEYFILE_BYTES_MAX:
        raise FormatError(f"a keyfile has at most {limits_keys.KEYFILE_BYTES_MAX} bytes", hint="give the keyfile")
    try:
        file = msgspec.json.decode(data, type=Keyfile)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"this is no keyfile: {error}", hint="give the file that `key create` wrote") from error
    if file.type != TYPE:
        raise FormatError(f"this is {file.type!r}, not {TYPE!r}", hint="give the file that `key create` wrote")
    if file.format != FORMAT:
        raise FormatError(f"keyfile format {file.format} is not known", hint="a newer release wrote it: upgrade")
    if not all(line.isprintable() for line in (file.fingerprint, file.comment, file.created)):
        raise FormatError("the keyfile is damaged: a field is no printable line", hint="take another copy of it")
    return file


def encode(file: Keyfile) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def write(path: Path, file: Keyfile, *, replace: bool = False) -> None:
    """As `write_private`."""
    write_private(path, encode(file), sealed=file.derivation is not None, replace=replace)


def write_private(path: Path, data: bytes, *, sealed: bool, replace: bool = False) -> None:
    """Whole or not at all, on file systems without hard links too. *Durability*: kept when this returns.

    Raises ConflictError when there is one already, RefusedError for what is not sealed where permissions mean nothing,
    UsageError.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                _check_private(path, os.fstat(descriptor).st_mode, sealed=sealed)
                opened.write(data)
                opened.flush()
                os.fsync(descriptor)
            if replace:
                temporary.replace(path)
            else:
                _name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write keyfile {path}: {error.strerror}", hint="check the folder") from error


def _check_private(path: Path, mode: int, *, sealed: bool) -> None:
    """Before anything is in it. Raises RefusedError."""
    if not sealed and stat.S_IMODE(mode) & 0o077:
        raise RefusedError(
            f"a keyfile without passphrase cannot be kept at {path}: its file system lets everybody read it",
            hint="give it a passphrase, or put it on another file system",
        )


def _name(temporary: Path, path: Path) -> None:
    """Give it its name if nothing has it. Raises ConflictError, OSError."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _name_without_links(temporary, path)


def _name_without_links(temporary: Path, path: Path) -> None:
    """As on FAT: take the name with an empty file that nobody else can have made, and put ours in its place.

    A stop in between leaves the empty file, which is no key and says so.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError as error:
        raise _exists(path) from error
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Some network and FUSE file systems cannot, and keep names without it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(descriptor)


def check_free(path: Path) -> None:
    """Raises ConflictError when there is something at `path`."""
    if os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> ConflictError:
    return ConflictError(
        f"{path} exists already",
        hint="a keyfile is never overwritten: without it the backups made with it are lost. Give another name",
    )


def _unseal(file: Keyfile, derivation: Derivation, passphrase: str) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - loaded only where a passphrase is used

    sealed = _bytes(file.root)
    nonce, rest = sealed[: limits_keys.SEAL_NONCE_BYTES], sealed[limits_keys.SEAL_NONCE_BYTES :]
    if len(rest) != ROOT_BYTES + limits_keys.SEAL_TAG_BYTES:
        raise FormatError("the keyfile is damaged: its sealed root has the wrong length", hint="take another copy")
    try:
        return cipher(derivation, passphrase).decrypt(nonce, rest, _bound(file))
    except InvalidTag as error:
        raise RefusedError(
            "the passphrase does not open the keyfile",
            hint="type it again; if you are sure of it, the file was changed: take another copy of it",
        ) from error


def new_derivation(cost: Cost | None = None) -> Derivation:
    """For something that is sealed now."""
    cost = cost or Cost()
    return Derivation(
        salt=_text(os.urandom(limits_keys.ARGON_SALT_BYTES)), operations=cost.operations, memory_bytes=cost.memory_bytes
    )


def cipher(derivation: Derivation, passphrase: str) -> AESGCM:
    """The cipher that a passphrase makes. Raises FormatError, UsageError, RefusedError where memory is short."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above
    from nacl.pwhash import argon2id  # noqa: PLC0415 - as above

    salt = _bytes(derivation.salt)
    if len(salt) != limits_keys.ARGON_SALT_BYTES:
        raise FormatError("the keyfile is damaged: its salt has the wrong length", hint="take another copy of it")
    raw = passphrase.encode("utf-8", "surrogateescape")
    if len(raw) > limits_keys.PASSPHRASE_BYTES_MAX:
        raise UsageError(
            f"a passphrase has at most {limits_keys.PASSPHRASE_BYTES_MAX} bytes", hint="give a shorter one"
        )
    try:
        key = argon2id.kdf(32, raw, salt, opslimit=derivation.operations, memlimit=derivation.memory_bytes)
    except (MemoryError, RuntimeError) as error:  # libsodium reports a failed allocation so
        needed = derivation.memory_bytes >> 20
        raise RefusedError(
            f"opening the keyfile needs {needed} MiB of memory, which are not free", hint="free some and try again"
        ) from error
    return AESGCM(key)


def _bound(file: Keyfile) -> bytes:
    """Everything beside the sealed root, so that nothing of it can be changed without the passphrase."""
    how = file.derivation
    parts: list[object] = [file.type, file.format, file.fingerprint, file.mode, file.comment, file.created]
    if how is not None:
        parts += [how.name, how.salt, how.operations, how.memory_bytes]
    if file.master is not msgspec.UNSET:
        # Else whoever can write the file, without being able to open it, would get the key wrapped for himself.
        parts += [file.master.fingerprint, file.master.public, file.master.comment]
    return "\n".join(map(str, parts)).encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise FormatError("the keyfile is damaged: a field is no base64", hint="take another copy of it") from error
