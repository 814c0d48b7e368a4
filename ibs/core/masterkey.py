"""The master key's public half and what is wrapped under it, as files (contrib/docs/formats.md §1).

Pure; what computes is in `security.masterkey`. A master key wraps the root of data keys, so that its owner can bring a
lost keyfile back from any snapshot made with it. Its private half never comes near a backup.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from ibs.core import limits_keys
from ibs.core.ids import Buffer, hex_fingerprint
from ibs.errors import FormatError

PUBLIC_TYPE: Final = "ironcore-backup master public key"
PRIVATE_TYPE: Final = "ironcore-backup master key"
WRAPPED_TYPE: Final = "ironcore-backup wrapped key"
FORMAT: Final = 1
WRAPPED_BLOB: Final = "wrapped.key"
"""Name of the wrapped root beside a snapshot's archives."""
_Line = Annotated[str, msgspec.Meta(max_length=limits_keys.KEY_TEXT_CHARS_MAX)]
_Long = Annotated[str, msgspec.Meta(max_length=limits_keys.MASTER_TEXT_CHARS_MAX)]


class MasterPublic(msgspec.Struct, frozen=True, kw_only=True):
    """`public`: base64 of the RSA key's SubjectPublicKeyInfo (DER); `fingerprint`: SHA-256 of that DER."""

    type: str = PUBLIC_TYPE
    format: int = FORMAT
    fingerprint: _Line
    comment: _Line = ""
    public: _Long

    @property
    def der(self) -> bytes:
        """The key itself. Raises FormatError."""
        return unbase(self.public)


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A root (`wrapped`, base64 of the RSA-OAEP ciphertext) under the master key with that fingerprint.

    `oaep` is the hash of OAEP and of its mask; `key_fingerprint`, `mode`, `comment` are the data key's. Nothing here is
    signed by itself: the manifest's signature covers the blob, and the root must make the stated fingerprint.
    """

    type: str = WRAPPED_TYPE
    format: int = FORMAT
    master: _Line
    oaep: Literal["sha256"] = "sha256"
    key_fingerprint: _Line
    mode: Literal["encrypt", "sign-only"] = "encrypt"
    comment: _Line = ""
    wrapped: _Long


_File = TypeVar("_File", MasterPublic, WrappedKey)


class _Typed(msgspec.Struct, frozen=True):
    type: _Line = ""
    format: int = 0


def fingerprint_of(der: bytes) -> str:
    """Of a public half, in colon form."""
    return hex_fingerprint(hashlib.sha256(der).digest())


def encode(file: MasterPublic | WrappedKey) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def decode_public(data: Buffer) -> MasterPublic:
    """Raises FormatError, also for a fingerprint that is not the key's."""
    found = _decode(data, MasterPublic, PUBLIC_TYPE, "masterkey show --public")
    check_public(found)
    return found


def check_public(key: MasterPublic) -> None:
    """Raises FormatError for a fingerprint that is not the key's, or text that is no line."""
    if fingerprint_of(key.der) != key.fingerprint:
        raise FormatError(
            "the master key's public half is damaged: its fingerprint is another key's", hint="take another copy of it"
        )
    if not key.comment.isprintable():
        raise FormatError("the master key's comment is no printable line", hint="take another copy of it")


def decode_wrapped(data: Buffer) -> WrappedKey:
    """Raises FormatError."""
    found = _decode(data, WrappedKey, WRAPPED_TYPE, "backup")
    if not all(line.isprintable() for line in (found.master, found.key_fingerprint, found.comment)):
        raise FormatError("the wrapped key is damaged: a field is no printable line", hint="take another snapshot's")
    return found


def unbase(text: str) -> bytes:
    """The bytes of a base64 field. Raises FormatError."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise FormatError("a field of the key is no base64", hint="take another copy of the file") from error


def _decode(data: Buffer, kind: type[_File], wanted: str, source: str) -> _File:
    if len(data) > limits_keys.MASTER_FILE_BYTES_MAX:
        raise FormatError(f"{wanted}: a file has at most {limits_keys.MASTER_FILE_BYTES_MAX} bytes")
    hint = f"give the file that `{source}` wrote"
    try:
        stated = msgspec.json.decode(data, type=_Typed)
        if stated.type != wanted:
            raise FormatError(f"this is {stated.type[:64]!r}, not {wanted!r}", hint=hint)
        if stated.format != FORMAT:
            raise FormatError(f"{wanted}: format {stated.format} is not known", hint="a newer release wrote it")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"this is no {wanted}: {error}", hint=hint) from error
