"""A snapshot opened for reading, trusted as far as its signature goes; nothing of it is used before that is known.

Imported by the modules of `client.restore`. PROTOCOLS 17: a client with a key takes only manifests signed by that key;
one without takes what the server vouches for. The snapshot must be the one that was asked for, and every index
must have the digest that the manifest states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ibs.core import index, names
from ibs.core.ids import PLAIN_DOMAIN, digest, hex_fingerprint, parse_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest, ManifestArchive, Signature, decode, public_key, verify
from ibs.errors import FingerprintMismatch, FormatError, NotFoundError, SignatureInvalid, UsageError
from ibs.ports.pool import Pool
from ibs.ports.transport import RestoreTransport
from ibs.wire.reader import ReaderOpened


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What this client last saw of a group, to notice a server that went back. `sequence` 0: nothing yet."""

    sequence: int = 0
    manifest_digest: str = ""


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """`signed_by` is `client` (by our key), `unchecked` (by a key of some client that is not at hand), `server` (not
    checked against a pinned one), or ``.
    """

    transport: RestoreTransport
    opened: ReaderOpened
    manifest: Manifest
    manifest_digest: str
    signed_by: str
    keys: DataKeys | None = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def encrypted(self) -> bool:
        return self.manifest.mode == "encrypted"

    def archive(self, name: str) -> ManifestArchive:
        """What the manifest says of an archive. Raises NotFoundError."""
        found = self.manifest.archive(names.check_archive(name))
        if found is None:
            there = ", ".join(archive.name for archive in self.manifest.archives) or "none"
            raise NotFoundError(f"archive {name} is not in {self.manifest.snapshot}", hint=f"its archives are: {there}")
        return found

    async def index(self, name: str, pool: Pool) -> tuple[index.IndexHeader, bytes]:
        """Header and whole file of an archive's index, proven by the manifest.

        Raises NotFoundError, FormatError, FingerprintMismatch.
        """
        archive = self.archive(name)
        raw = await self.transport.file(f"{name}.idx")
        if len(raw) != archive.index_bytes or (await pool.cpu(digest, raw)).hex() != archive.index_digest:
            raise FormatError(
                f"the index of {name} in {self.manifest.snapshot} is not the one its manifest states",
                hint="run: ironcore-backup verify start STORE --notification-mode always",
            )
        header = index.parse_header(raw, file_bytes=len(raw))
        stated = parse_fingerprint(archive.key_fingerprint) if archive.key_fingerprint else PLAIN_DOMAIN
        if (header.kind, header.records, header.plain_bytes, header.domain) != (
            archive.kind,
            archive.records,
            archive.plain_bytes,
            stated,
        ):
            raise FormatError(f"the index of {name} in {self.manifest.snapshot} contradicts its manifest")
        return header, raw


async def open_snapshot(
    transport: RestoreTransport,
    store: str,
    snapshot: str,
    *,
    keys: DataKeys | None = None,
    last_seen: LastSeen | None = None,
) -> OpenSnapshot:
    """Take the read lease and check who vouches for what. `snapshot` without a time is the group's newest.

    Raises SignatureInvalid, FingerprintMismatch, FormatError, UsageError, and what the transport raises; the lease is
    closed again then.
    """
    asked = names.SnapshotName.parse(snapshot)
    opened = await transport.open(store, snapshot)
    try:
        raw = opened.manifest.encode()
        manifest = decode(raw)
        _check_name(asked, opened, manifest)
        _check_keys(manifest, keys)  # first: a wrong key is called that, and nothing of the content was used yet
        signed_by = _check_signature(raw, opened, manifest, keys)
        manifest_digest = digest(raw).hex()
        warnings = [] if signed_by else ["the manifest is not signed; nothing proves that it is whole"]
        if asked.time is None and last_seen is not None:
            warnings += _went_back(manifest, manifest_digest, last_seen)
        return OpenSnapshot(transport, opened, manifest, manifest_digest, signed_by, keys, tuple(warnings))
    except (UsageError, SignatureInvalid, FingerprintMismatch) as error:
        await transport.close("FAILED", 0, error.code)
        raise


def _check_name(asked: names.SnapshotName, opened: ReaderOpened, manifest: Manifest) -> None:
    """Nobody may pass one snapshot off as another."""
    got = names.SnapshotName.parse(manifest.snapshot)
    same = (got.namespace, got.group) == (asked.namespace, asked.group) and asked.time in (None, got.time)
    if not same or opened.snapshot != manifest.snapshot:
        raise SignatureInvalid(f"asked for {asked}, the server answered with the manifest of {manifest.snapshot}")


def _check_signature(raw: bytes, opened: ReaderOpened, manifest: Manifest, keys: DataKeys | None) -> str:
    """Who signed, in the words of `OpenSnapshot.signed_by`. Raises SignatureInvalid."""
    if not opened.signature:
        if keys is not None or manifest.mode != "plain":
            raise SignatureInvalid(f"the manifest of {manifest.snapshot} is not signed")
        return ""
    own = public_key(keys.signing_seed) if keys is not None else None
    by_us = own is not None and opened.signer == own.hex()
    signature = Signature(signer=opened.signer, by="client" if by_us else "server", signature=opened.signature)
    if keys is not None and not by_us:
        whose = "the server" if manifest.mode == "plain" else "another key"
        raise SignatureInvalid(
            f"the manifest of {manifest.snapshot} is signed by {whose}, not by the key in use",
            hint="a client with a key trusts its own signature only; give --keyfile none to trust the server's",
        )
    try:
        verify(raw, signature, signer=own)
    except SignatureInvalid as error:
        raise SignatureInvalid(f"snapshot {manifest.snapshot}: {error.message}", hint=error.hint) from error
    if by_us:
        return "client"
    return "server" if manifest.mode == "plain" else "unchecked"


def _check_keys(manifest: Manifest, keys: DataKeys | None) -> None:
    """An encrypted snapshot asks for its key before anything is fetched. Raises FingerprintMismatch."""
    if manifest.mode != "encrypted":
        return
    wanted = parse_fingerprint(manifest.key_fingerprint)
    if keys is None or keys.fingerprint != wanted:
        raise FingerprintMismatch(
            manifest.key_fingerprint, hex_fingerprint(keys.fingerprint) if keys is not None else "none"
        )


def _went_back(manifest: Manifest, manifest_digest: str, last_seen: LastSeen) -> list[str]:
    """PROTOCOLS 17: a newest snapshot older than one seen before, or another one in its place."""
    if manifest.sequence < last_seen.sequence:
        return [f"the newest snapshot has number {manifest.sequence}; number {last_seen.sequence} was seen before"]
    if manifest.sequence == last_seen.sequence and manifest_digest != last_seen.manifest_digest:
        return [f"snapshot number {manifest.sequence} is not the one that was seen before under that number"]
    return []
