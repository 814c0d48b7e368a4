"""What a snapshot says of itself: manifest, its signature, and the state that may change (contrib/docs/formats.md §5).

Pure; used by `engine`, `client`, `storage`. Invariants: a `Manifest` that came out of `decode` or went through `encode`
has valid names, digests and counts; the signature covers the exact bytes, so those bytes are kept, never re-encoded.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ibs.core import index, limits, names
from ibs.core.ids import Buffer, hex_fingerprint, parse_fingerprint, parse_hex
from ibs.errors import FormatError, SignatureInvalid, UsageError

FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
CLIENT_LOG: Final = "client.log"
"""The blob that holds what the backup said on its host."""
SIGNATURE_FILE: Final = "manifest.sig"
STATE_FILE: Final = "state.json"
OWNER_FILE: Final = "owner.json"
MARK_FILE: Final = "last.json"
SIGNATURE_PREFIX: Final = b"ironcore-backup manifest v1\0"

_INT_MAX: Final = (1 << 63) - 1
_AUTH_ID: Final = re.compile(r"[^\s:/!@]{1,64}@[^\s:/!@]{1,64}(![^\s:/!@]{1,64})?", re.ASCII)

Count = Annotated[int, msgspec.Meta(ge=0, le=_INT_MAX)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_INT_MAX)]
Line = Annotated[str, msgspec.Meta(max_length=limits.MANIFEST_TEXT_CHARS_MAX)]
Mode = Literal["plain", "signed", "encrypted"]


class ManifestArchive(msgspec.Struct, frozen=True, kw_only=True):
    """One archive. `index_digest` is BLAKE3 (hex) of the whole index file; `entries` counts tree entries (0: image)."""

    name: Line
    kind: Literal["tree", "img"]
    plain_bytes: Count
    records: Count
    index_bytes: Count
    index_digest: Line
    entries: Count = 0
    key_fingerprint: Line = ""


class ManifestBlob(msgspec.Struct, frozen=True, kw_only=True):
    """One small file beside the archives, such as `client.log`. `digest` is BLAKE3 (hex) of its bytes."""

    name: Line
    bytes: Count
    digest: Line


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`, immutable. `snapshot` is the full written name; `previous` the digest (hex) of the group's last
    manifest or ""; `created` as `names.format_time`; `key_fingerprint` in colon form or "".
    """

    format: int = FORMAT
    datastore: Line
    snapshot: Line
    sequence: Positive
    previous: Line = ""
    created: Line
    client: Line
    owner: Line
    mode: Mode
    key_fingerprint: Line = ""
    archives: tuple[ManifestArchive, ...] = ()
    blobs: tuple[ManifestBlob, ...] = ()
    stats: dict[Line, Count] = {}
    warnings: Count = 0
    run: Count = 0
    # A later addition: digest (hex) of the manifest that this one was made from when its group was moved.
    source: Line | msgspec.UnsetType = msgspec.UNSET

    def archive(self, name: str) -> ManifestArchive | None:
        """The archive called `name`, or None."""
        return next((archive for archive in self.archives if archive.name == name), None)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.sig`. `signer` is the Ed25519 public key (hex), `signature` base64."""

    format: int = FORMAT
    signer: Line
    by: Literal["client", "server"]
    signature: Line


class VerifyState(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of the last verification. `chunks` and `bytes` are what was checked; `proof` the levels reached."""

    result: Line
    time: Line
    upid: Line = ""
    chunks: Count = 0
    first_failure: Annotated[str, msgspec.Meta(max_length=limits.STATE_BYTES_MAX)] = ""
    # Later additions; absent where an earlier writer left them out, and then not written either.
    bytes: Count | msgspec.UnsetType = msgspec.UNSET
    duration_seconds: Annotated[float, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET
    proof: Annotated[list[Line], msgspec.Meta(max_length=limits.MANIFEST_BLOBS_MAX)] | msgspec.UnsetType = msgspec.UNSET


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """Where a snapshot was copied from: the remote's name here, the uuid of its datastore, and when (`format_time`)."""

    remote: Line
    datastore: Line
    time: Line


class SnapshotState(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`: what may change about a snapshot after it was written."""

    format: int = FORMAT
    notes: Annotated[str, msgspec.Meta(max_length=limits.STATE_BYTES_MAX)] = ""
    protected: bool = False
    verify: VerifyState | None = None
    # A later addition; absent where the snapshot was made here.
    brought: Brought | msgspec.UnsetType = msgspec.UNSET


class GroupOwner(msgspec.Struct, frozen=True, kw_only=True):
    """`owner.json` in the group folder. `owner` is an auth-id."""

    format: int = FORMAT
    owner: Line


class _Versioned(msgspec.Struct):
    format: int


class GroupMark(msgspec.Struct, frozen=True, kw_only=True):
    """The last number and time given to a snapshot that has left its group: neither is given again."""

    format: int = FORMAT
    sequence: int = 0
    time: str = ""


_Struct = TypeVar("_Struct", Manifest, Signature, SnapshotState, GroupOwner, GroupMark)
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: UTF-8, fields in the format's order, indented by one.

    Raises FormatError when `decode` would refuse them.
    """
    return _write(manifest, decode)


def decode(data: Buffer) -> Manifest:
    """Read and check manifest.json. Raises FormatError; memory is bounded by MANIFEST_BYTES_MAX."""
    manifest = _read(data, Manifest, MANIFEST_FILE, limits.MANIFEST_BYTES_MAX)
    try:
        _check_manifest(manifest)
    except FormatError:
        raise
    except UsageError as error:  # a name, time or digest; its sentence says which
        raise FormatError(f"{MANIFEST_FILE}: {error.message}") from error
    return manifest


def signed_bytes(manifest_bytes: Buffer) -> bytes:
    """What a signature is made over: the domain prefix and the exact bytes of manifest.json."""
    return SIGNATURE_PREFIX + manifest_bytes


def public_key(seed: bytes) -> bytes:
    """The Ed25519 public key (32 bytes) of a 32-byte signing seed."""
    return SigningKey(seed).verify_key.encode()


def sign(manifest_bytes: Buffer, seed: bytes, by: Literal["client", "server"]) -> Signature:
    """Sign the exact bytes of manifest.json with a 32-byte Ed25519 seed."""
    key = SigningKey(seed)
    signature = key.sign(signed_bytes(manifest_bytes)).signature
    return Signature(signer=key.verify_key.encode().hex(), by=by, signature=base64.b64encode(signature).decode())


def verify(manifest_bytes: Buffer, signature: Signature, *, signer: bytes | None = None) -> None:
    """Check that `signature` is over exactly these bytes, and where `signer` (32 bytes) is given, by that key.

    Without `signer` this proves only that somebody holding `signature.signer` signed. Raises SignatureInvalid.
    """
    if signer is not None and signature.signer != signer.hex():
        raise SignatureInvalid(f"the manifest is signed by {signature.signer}, trusted is {signer.hex()}")
    try:
        raw = base64.b64decode(signature.signature, validate=True)
        VerifyKey(parse_hex(signature.signer, "signer")).verify(signed_bytes(manifest_bytes), raw)
    except (BadSignatureError, UsageError, ValueError, TypeError, binascii.Error) as error:
        raise SignatureInvalid("the signature does not fit the manifest") from error


def encode_signature(signature: Signature) -> bytes:
    """The bytes of manifest.sig. Raises FormatError when `decode_signature` would refuse them."""
    return _write(signature, decode_signature)


def decode_signature(data: Buffer) -> Signature:
    """Read manifest.sig; whether it holds is for `verify` to say. Raises FormatError."""
    signature = _read(data, Signature, SIGNATURE_FILE, limits.SIGNATURE_BYTES_MAX)
    try:
        parse_hex(signature.signer, "signer")
        fits = len(base64.b64decode(signature.signature, validate=True)) == 64
    except (UsageError, ValueError, binascii.Error):
        fits = False
    if not fits:
        raise FormatError(f"{SIGNATURE_FILE}: signer or signature is not an Ed25519 one")
    return signature


def encode_state(state: SnapshotState) -> bytes:
    """The bytes of state.json. Raises FormatError when too large."""
    return _write(state, decode_state)


def decode_state(data: Buffer) -> SnapshotState:
    """Read state.json. Raises FormatError."""
    return _read(data, SnapshotState, STATE_FILE, limits.STATE_BYTES_MAX)


def encode_owner(owner: GroupOwner) -> bytes:
    """The bytes of owner.json. Raises FormatError when the auth-id is none."""
    return _write(owner, decode_owner)


def decode_owner(data: Buffer) -> GroupOwner:
    """Read owner.json. Raises FormatError."""
    owner = _read(data, GroupOwner, OWNER_FILE, limits.STATE_BYTES_MAX)
    if not _AUTH_ID.fullmatch(owner.owner):
        raise FormatError(f"{OWNER_FILE}: {owner.owner!r} is not an auth-id")
    return owner


def encode_mark(mark: GroupMark) -> bytes:
    """The bytes of last.json. Raises FormatError."""
    return _write(mark, decode_mark)


def decode_mark(data: Buffer) -> GroupMark:
    """Read last.json. Raises FormatError."""
    mark = _read(data, GroupMark, MARK_FILE, limits.STATE_BYTES_MAX)
    if mark.sequence < 0:
        raise FormatError(f"{MARK_FILE}: sequence {mark.sequence} is negative")
    if mark.time:
        _check_time(mark.time)
    return mark


def _check_time(text: str) -> None:
    try:
        names.parse_time(text)
    except UsageError as error:
        raise FormatError(f"{MARK_FILE}: {error.message}") from error


def _write(value: _Struct, check: Callable[[bytes], Any]) -> bytes:
    """Encode, then read back what was written: nothing invalid is ever put on disk or signed."""
    try:
        data = msgspec.json.format(_ENCODER.encode(value), indent=1)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise FormatError(f"{type(value).__name__} cannot be written: {error}") from error
    check(data)
    return data


def _read(data: Buffer, kind: type[_Struct], file: str, bytes_max: int) -> _Struct:
    if len(data) > bytes_max:
        raise FormatError(f"{file} has {len(data)} bytes, more than {bytes_max}")
    try:
        version = msgspec.json.decode(data, type=_Versioned).format
        if version != FORMAT:
            raise FormatError(
                f"{file} format {version} is not known", hint="a newer release wrote it: upgrade this one"
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"{file}: {error}") from error


def _check_manifest(manifest: Manifest) -> None:
    """Everything the types do not say. Raises UsageError (of which FormatError is one)."""
    snapshot = names.SnapshotName.parse(manifest.snapshot)
    if snapshot.time is None or str(snapshot) != manifest.snapshot:
        raise FormatError(f"snapshot {manifest.snapshot!r} is not a full name in its written form")
    names.parse_time(manifest.created)
    if _uuid(manifest.datastore) != manifest.datastore:
        raise FormatError(f"datastore {manifest.datastore!r} is not a uuid")
    if not _AUTH_ID.fullmatch(manifest.owner):
        raise FormatError(f"owner {manifest.owner!r} is not an auth-id")
    if manifest.previous:
        parse_hex(manifest.previous, "previous manifest digest")
    if manifest.source is not msgspec.UNSET:
        parse_hex(manifest.source, "source manifest digest")
    _check_fingerprint(manifest.key_fingerprint)
    if bool(manifest.key_fingerprint) < (manifest.mode == "encrypted") or (
        manifest.mode == "plain" and manifest.key_fingerprint
    ):
        raise FormatError(f"mode {manifest.mode} and key fingerprint {manifest.key_fingerprint!r} do not fit")
    if len(manifest.archives) > limits.MANIFEST_ARCHIVES_MAX or len(manifest.blobs) > limits.MANIFEST_BLOBS_MAX:
        raise FormatError(
            f"more than {limits.MANIFEST_ARCHIVES_MAX} archives or {limits.MANIFEST_BLOBS_MAX} blobs in a snapshot"
        )
    if len(manifest.stats) > limits.MANIFEST_STATS_MAX:
        raise FormatError(f"more than {limits.MANIFEST_STATS_MAX} statistics")
    for archive in manifest.archives:
        _check_archive(archive, manifest)
    for blob in manifest.blobs:
        names.check_blob_name(blob.name)
        parse_hex(blob.digest, f"digest of {blob.name}")
        if blob.bytes > limits.SNAPSHOT_BLOB_BYTES_MAX:
            raise FormatError(f"blob {blob.name} has {blob.bytes} bytes, more than {limits.SNAPSHOT_BLOB_BYTES_MAX}")
    _check_distinct([archive.name for archive in manifest.archives])
    _check_distinct([blob.name for blob in manifest.blobs])


def _check_archive(archive: ManifestArchive, manifest: Manifest) -> None:
    if names.archive_kind(archive.name) != archive.kind:
        raise FormatError(f"archive {archive.name} cannot be of kind {archive.kind}")
    parse_hex(archive.index_digest, f"index digest of {archive.name}")
    size = index.HEADER_BYTES + archive.records * index.RECORD_BYTES[archive.kind]
    if archive.records > limits.INDEX_RECORDS_MAX or archive.index_bytes != size:
        raise FormatError(f"archive {archive.name}: {archive.records} records do not make {archive.index_bytes} bytes")
    wanted = manifest.key_fingerprint if manifest.mode == "encrypted" else ""
    if archive.key_fingerprint != wanted:
        raise FormatError(
            f"archive {archive.name}: key fingerprint {archive.key_fingerprint!r} does not fit the manifest's"
        )


def _check_fingerprint(text: str) -> None:
    if text and hex_fingerprint(parse_fingerprint(text)) != text:
        raise FormatError(f"key fingerprint {text!r} is not in its written form")


def _check_distinct(given: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in given:
        if name in seen:
            raise FormatError(f"{name} is listed twice")
        seen.add(name)


def _uuid(text: str) -> str:
    """The canonical form of a uuid, or "" when it is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
