"""The master key: RSA-4096, whose private half lies sealed in a file of its own, away from hosts and servers.

Used by the client's commands. Wrapping is RSA-OAEP with SHA-256 (RFC 8017), by the library `cryptography`. The private
half is PKCS#8 under AES-256-GCM; the key of that comes from a passphrase as a keyfile's does. Blocking: making a key
takes seconds, opening one a second. Invariants: there is no private half without a passphrase; what is unwrapped is
believed only when it makes the fingerprint that was asked for.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from ibs.core import limits_keys, publickey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import ROOT_BYTES, DataKeys
from ibs.core.masterkey import FORMAT, PRIVATE_TYPE, MasterPublic, WrappedKey, check_public, fingerprint_of, unbase
from ibs.errors import FormatError, NotFoundError, RefusedError, UsageError
from ibs.security import keyfile
from ibs.security.keyfile import Cost, Derivation, LoadedKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

_Line = Annotated[str, msgspec.Meta(max_length=limits_keys.KEY_TEXT_CHARS_MAX)]
_Long = Annotated[str, msgspec.Meta(max_length=limits_keys.MASTER_TEXT_CHARS_MAX)]


class MasterFile(msgspec.Struct, frozen=True, kw_only=True):
    """The private half. `sealed`: base64 of nonce (12) and the sealed PKCS#8 (DER); all else is bound to it."""

    type: str = PRIVATE_TYPE
    format: int = FORMAT
    fingerprint: _Line
    comment: _Line = ""
    created: _Line = ""
    public: _Long
    derivation: Derivation
    sealed: _Long


def make(
    passphrase: str, comment: str, created: str, *, bits: int = limits_keys.MASTER_BITS, cost: Cost | None = None
) -> MasterFile:
    """A new master key. Raises UsageError without a passphrase."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - loaded only where it is used

    return _seal(rsa.generate_private_key(65537, bits), passphrase, comment, created, cost)


def seal_again(file: MasterFile, old: str, new: str, *, cost: Cost | None = None) -> MasterFile:
    """The same key under another passphrase. Raises RefusedError, FormatError, UsageError."""
    return _seal(_open(file, old), new, file.comment, file.created, cost)


def public_half(file: MasterFile) -> MasterPublic:
    """What hosts are given. Raises FormatError."""
    public = MasterPublic(fingerprint=file.fingerprint, comment=file.comment, public=file.public)
    check_public(public)
    return public


def wrap(master: MasterPublic, key: LoadedKey) -> WrappedKey:
    """A data key's root, for the owner of the master key. Raises FormatError for a key that is none."""
    wrapped = _public(master).encrypt(key.keys.root, _oaep())
    return WrappedKey(
        master=master.fingerprint,
        key_fingerprint=hex_fingerprint(key.keys.fingerprint),
        mode=key.mode,
        comment=key.comment,
        wrapped=base64.b64encode(wrapped).decode(),
    )


def unwrap(file: MasterFile, passphrase: Callable[[], str], wrapped: WrappedKey) -> DataKeys:
    """The data key inside. Raises RefusedError, also for another master key, FormatError."""
    if wrapped.master != file.fingerprint:
        raise RefusedError(  # before a passphrase is asked for
            f"the key is wrapped under master key {wrapped.master}, the file holds {file.fingerprint}",
            hint="give the file of that master key",
        )
    private = _open(file, passphrase())
    try:
        root = private.decrypt(unbase(wrapped.wrapped), _oaep())
    except ValueError as error:
        raise FormatError("the wrapped key is damaged: it does not open", hint="take another snapshot's") from error
    if len(root) != ROOT_BYTES:
        raise FormatError("the wrapped key holds no data key", hint="take another snapshot's")
    keys = DataKeys.from_root(root)
    if hex_fingerprint(keys.fingerprint) != wrapped.key_fingerprint:
        raise FormatError("the wrapped key holds another data key than it states", hint="take another snapshot's")
    return keys


# --- files ---


def read(path: Path) -> MasterFile:
    """Raises NotFoundError, UsageError, FormatError."""
    try:
        with path.open("rb") as opened:
            data = opened.read(limits_keys.MASTER_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        hint = f"make one with: ironcore-backup-client masterkey create {path}"
        raise NotFoundError(f"there is no master key {path}", hint=hint) from error
    except OSError as error:
        raise UsageError(f"master key {path} cannot be read: {error.strerror}", hint="check the path") from error
    return decode(data)


def decode(data: bytes) -> MasterFile:
    """Raises FormatError."""
    hint = "give the file that `masterkey create` wrote"
    if len(data) > limits_keys.MASTER_FILE_BYTES_MAX:
        raise FormatError(f"a master key has at most {limits_keys.MASTER_FILE_BYTES_MAX} bytes", hint=hint)
    try:
        file = msgspec.json.decode(data, type=MasterFile)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"this is no master key: {error}", hint=hint) from error
    if file.type != PRIVATE_TYPE:
        raise FormatError(f"this is {file.type[:64]!r}, not {PRIVATE_TYPE!r}", hint=hint)
    if file.format != FORMAT:
        raise FormatError(f"master key format {file.format} is not known", hint="a newer release wrote it: upgrade")
    if not all(line.isprintable() for line in (file.fingerprint, file.comment, file.created)):
        raise FormatError("the master key is damaged: a field is no printable line", hint="take another copy of it")
    return file


def encode(file: MasterFile) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


# --- inside ---


def _seal(private: RSAPrivateKey, passphrase: str, comment: str, created: str, cost: Cost | None) -> MasterFile:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    if not passphrase:
        raise UsageError("a master key needs a passphrase", hint="it opens every key that it wraps")
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    plain = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    derivation = keyfile.new_derivation(cost)
    stated = MasterFile(
        fingerprint=fingerprint_of(public),
        comment=publickey.check_comment(comment),
        created=created,
        public=base64.b64encode(public).decode(),
        derivation=derivation,
        sealed="",
    )
    nonce = os.urandom(limits_keys.SEAL_NONCE_BYTES)
    sealed = keyfile.cipher(derivation, passphrase).encrypt(nonce, plain, _bound(stated))
    return msgspec.structs.replace(stated, sealed=base64.b64encode(nonce + sealed).decode())


def _open(file: MasterFile, passphrase: str) -> RSAPrivateKey:
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - as above

    sealed = unbase(file.sealed)
    nonce, rest = sealed[: limits_keys.SEAL_NONCE_BYTES], sealed[limits_keys.SEAL_NONCE_BYTES :]
    try:
        plain = keyfile.cipher(file.derivation, passphrase).decrypt(nonce, rest, _bound(file))
        private = serialization.load_der_private_key(plain, None)
    except InvalidTag as error:
        raise RefusedError(
            "the passphrase does not open the master key",
            hint="type it again; if you are sure of it, the file was changed: take another copy of it",
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError("the master key is damaged", hint="take another copy of it") from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise FormatError("the master key is no RSA key", hint="take another copy of it")
    return private


def _public(master: MasterPublic) -> RSAPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - as above

    check_public(master)
    try:
        public = serialization.load_der_public_key(master.der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError("the master key's public half is no key", hint="take another copy of it") from error
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < limits_keys.MASTER_BITS_MIN:
        raise FormatError(
            f"a master key is RSA with at least {limits_keys.MASTER_BITS_MIN} bits", hint="make one: masterkey create"
        )
    return public


def _oaep() -> OAEP:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415 - as above

    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def _bound(file: MasterFile) -> bytes:
    """Everything beside the sealed half, so that nothing of it can be changed without the passphrase."""
    how = file.derivation
    parts = [file.type, file.format, file.fingerprint, file.comment, file.created, file.public]
    parts += [how.name, how.salt, how.operations, how.memory_bytes]
    return "\n".join(map(str, parts)).encode("utf-8", "surrogatepass")
