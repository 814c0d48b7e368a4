"""The public half of a data key as a file: what a host hands to the server's administrator (formats.md, "Keys").

Pure; used by `client` (writes), `services` and the CLI (read). The signature is made with the key itself: whoever
registers the file knows that fingerprint, signer and comment belong together, and that nothing was mistyped.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ibs.core import limits_keys
from ibs.core.ids import Buffer, hex_fingerprint, parse_fingerprint, parse_hex
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, SignatureInvalid, UsageError

TYPE: Final = "ironcore-backup public key"
KEYFILE_TYPE: Final = "ironcore-backup keyfile"
FORMAT: Final = 1
_Line = Annotated[str, msgspec.Meta(max_length=limits_keys.KEY_TEXT_CHARS_MAX)]


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """`fingerprint` in colon form; `signer` the Ed25519 public key (64 hex digits); `signature` base64, by `signer`."""

    type: str = TYPE
    format: int = FORMAT
    fingerprint: _Line
    signer: _Line
    comment: _Line = ""
    signature: _Line


class _Typed(msgspec.Struct, frozen=True):
    type: _Line = ""


def describe(keys: DataKeys, comment: str = "") -> PublicKey:
    """The public half of `keys`. Raises UsageError when the comment is no single short line."""
    fingerprint, key = hex_fingerprint(keys.fingerprint), SigningKey(keys.signing_seed)
    signer = bytes(key.verify_key).hex()
    check_comment(comment)
    signature = key.sign(_signed(fingerprint, signer, comment)).signature
    return PublicKey(
        fingerprint=fingerprint, signer=signer, comment=comment, signature=base64.b64encode(signature).decode()
    )


def encode(key: PublicKey) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(key), indent=1) + b"\n"


def decode(data: Buffer) -> PublicKey:
    """Read and check a file. Raises FormatError, SignatureInvalid."""
    if len(data) > limits_keys.PUBLIC_KEY_BYTES_MAX:
        raise FormatError(f"a public key has at most {limits_keys.PUBLIC_KEY_BYTES_MAX} bytes, this file {len(data)}")
    try:
        stated = msgspec.json.decode(data, type=_Typed)
        if stated.type == KEYFILE_TYPE:
            raise FormatError(
                "this is the keyfile itself, not its public half: it never leaves its host",
                hint="write the public half there with: ironcore-backup-client key show --public",
            )
        key = msgspec.json.decode(data, type=PublicKey)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(
            f"this is no public key of a data key: {error}",
            hint="write one with: ironcore-backup-client key show --public",
        ) from error
    check(key)
    return key


def check(key: PublicKey) -> None:
    """Whether everything in it belongs together. Raises FormatError, SignatureInvalid."""
    if key.type != TYPE:
        raise FormatError(f"this is {key.type!r}, not {TYPE!r}", hint="give the file of the public half")
    if key.format != FORMAT:
        raise FormatError(f"public key format {key.format} is not known", hint="a newer release wrote it: upgrade")
    try:
        parse_fingerprint(key.fingerprint)
        check_comment(key.comment)
        verifier = VerifyKey(parse_hex(key.signer, "signer"))
        signature = base64.b64decode(key.signature, validate=True)
    except (UsageError, ValueError, binascii.Error) as error:
        raise FormatError(f"public key: {error}") from error
    if len(signature) != limits_keys.SIGNATURE_BYTES:
        raise FormatError(f"public key: a signature has {limits_keys.SIGNATURE_BYTES} bytes")
    try:
        verifier.verify(_signed(key.fingerprint, key.signer, key.comment), signature)
    except BadSignatureError as error:
        raise SignatureInvalid("the public key's own signature does not hold") from error


def check_comment(comment: str) -> str:
    """Return it when it is one printable line. Raises UsageError."""
    if len(comment) > limits_keys.KEY_TEXT_CHARS_MAX or not (comment.isprintable() or not comment):
        raise UsageError(
            "a key's comment is one printable line",
            hint=f"shorten it to {limits_keys.KEY_TEXT_CHARS_MAX} characters, without line breaks",
        )
    return comment


def _signed(fingerprint: str, signer: str, comment: str) -> bytes:
    return "\n".join((f"{TYPE} {FORMAT}", fingerprint, signer, comment)).encode("utf-8", "surrogatepass")
