"""Setting a damaged snapshot right by what somebody else has of it: its files, then its chunks. Synchronous.

Used by `services.mending`, from the pool. Nothing is taken on somebody's word: a manifest comes with a signature that
must hold, indexes and blobs must have the digests that it states, and chunks are checked as a client's are (PROTOCOLS
7, 25). What is sound here is never replaced. The snapshot keeps its name, its locks, and its notes where
they can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ibs.core import limits
from ibs.core import manifest as manifests
from ibs.core.blob import check_blob
from ibs.core.ids import digest, parse_hex
from ibs.core.index import distinct
from ibs.core.manifest import MANIFEST_FILE, SIGNATURE_FILE, Signature, SnapshotState
from ibs.core.names import SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import snapshot_index
from ibs.engine.session.bases import present
from ibs.errors import ConflictError, CorruptChunk, FormatError, NotFoundError, SignatureInvalid
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.ports.transport import Buffer
from ibs.storage.local.layout import snapshot_folder
from ibs.wire.reader import ReaderOpened

LOST_STATE = "notes and protection were lost by damage: look, then unprotect"


@dataclass(frozen=True, slots=True)
class Replica:
    """What somebody else has: the manifest's exact bytes, and a signature that fits them."""

    raw: bytes
    signature: Signature


def replica_of(context: StoreContext, name: SnapshotName, opened: ReaderOpened, signer: bytes) -> Replica:
    """What a remote answered, if it may be believed: a plain one is signed by its own server (`signer`, 32 bytes), by
    this datastore's, or by whose signature was taken here before; any other by its client.

    Raises SignatureInvalid, FormatError.
    """
    raw = opened.manifest.encode("utf-8", "surrogatepass")
    manifest = manifests.decode(raw)
    if manifest.snapshot != str(name):
        raise SignatureInvalid(f"asked for {name}, the remote answered with {manifest.snapshot}")
    by_server = manifest.mode == "plain"
    signature = Signature(signer=opened.signer, by="server" if by_server else "client", signature=opened.signature)
    ours = manifests.public_key(context.signing_seed)
    trusted = ours if manifest.datastore == context.uuid else signer
    if signature.signer == _signer_here(context, name):
        trusted = parse_hex(signature.signer, "signer")
    manifests.verify(raw, signature, signer=trusted if by_server else None)
    return Replica(raw, signature)


def _signer_here(context: StoreContext, name: SnapshotName) -> str:
    """Who signed it as it lies here, in hex; "" when that cannot be read."""
    try:
        content = context.folders.files.read(snapshot_folder(name), SIGNATURE_FILE, limit=limits.SIGNATURE_BYTES_MAX)
        return manifests.decode_signature(content).signer
    except (FormatError, NotFoundError):
        return ""


class Mender:
    """One snapshot. The caller holds the group's lock around `set_manifest` and `set_file`."""

    def __init__(self, context: StoreContext, name: SnapshotName) -> None:
        self._context = context
        self._name = name
        self._folder = snapshot_folder(name)
        self._files = context.folders.files

    def set_manifest(self, replica: Replica) -> list[str]:
        """Replace a manifest or signature that is damaged or gone; which were. Raises ConflictError when the one here
        is sound and another. *Durability*: durable when it returns.
        """
        stored = self._sound()
        if stored is not None:
            if stored.manifest_bytes != replica.raw:
                raise ConflictError(f"snapshot {self._name} is another one there", hint="both are left alone")
            return []
        self._fits_what_is_left(replica)
        signature = manifests.encode_signature(replica.signature)
        done = []
        # The manifest last: it makes the snapshot visible.
        for file, content in ((SIGNATURE_FILE, signature), (MANIFEST_FILE, replica.raw)):
            if self._read(file) != content:
                self._files.write_file(self._folder, file, content)
                done.append(file)
        if self._state_lost():
            # What it said is nowhere else. Whether it was protected is not known, so it is until somebody looks.
            state = SnapshotState(protected=True, notes=LOST_STATE)
            self._context.folders.change_state(self._name, lambda _: state)
            done.append(manifests.STATE_FILE)
        self._context.folders.forget(self._name)
        return done

    def _state_lost(self) -> bool:
        try:
            self._context.folders.state(self._name)
        except FormatError:
            return True
        return False

    def _sound(self) -> StoredSnapshot | None:
        self._context.folders.forget(self._name)
        try:
            stored = self._context.folders.load(self._name)
            manifests.verify(stored.manifest_bytes, stored.signature)
        except (FormatError, NotFoundError, SignatureInvalid):
            return None
        return stored

    def _fits_what_is_left(self, replica: Replica) -> None:
        """One of the two files may still be whole: then it says whether this is the same snapshot."""
        raw, signed = self._read(MANIFEST_FILE), self._read(SIGNATURE_FILE)
        try:
            signature = manifests.decode_signature(signed or b"")
            manifests.verify(replica.raw, signature, signer=parse_hex(replica.signature.signer, "signer"))
        except FormatError:
            pass  # nothing to compare with
        except SignatureInvalid:
            if raw != replica.raw:
                raise ConflictError(
                    f"what is left of snapshot {self._name} here does not fit the one there",
                    hint="look at both; forget the damaged one here to bring the other",
                ) from None

    def _read(self, file: str) -> bytes | None:
        try:
            return self._files.read(self._folder, file, limit=limits.MANIFEST_BYTES_MAX)
        except (NotFoundError, FormatError):
            return None

    def broken_files(self) -> list[tuple[str, str, int]]:
        """Indexes and blobs that are missing or are not what the manifest states: name, digest (hex), bytes."""
        manifest = self._context.folders.load(self._name).manifest
        stated = [(f"{one.name}.idx", one.index_digest, one.index_bytes) for one in manifest.archives]
        stated += [(one.name, one.digest, one.bytes) for one in manifest.blobs]
        return [one for one in stated if not self._whole(*one)]

    def _whole(self, file: str, wanted: str, size: int) -> bool:
        try:
            if file.endswith(".idx"):
                return snapshot_index(self._files, self._folder, file.removesuffix(".idx")).prove().digest == wanted
            content = self._files.read(self._folder, file, limit=size)
        except (NotFoundError, FormatError):
            return False
        return digest(content).hex() == wanted

    def set_file(self, file: str, wanted: str, content: bytes) -> None:
        """Put a whole index or blob in its place. Raises FormatError when it is not the stated one; NoSpace.

        *Durability*: durable when it returns; whoever reads the old one goes on reading that.
        """
        if digest(content).hex() != wanted:
            raise FormatError(f"{file} of {self._name} that arrived is not the one its manifest states")
        self._files.write_file(self._folder, file, content)
        self._context.folders.forget(self._name)

    def missing(self) -> Iterator[list[Address]]:
        """Chunks that are not there or not good, in pieces. Call under a read lease, with all files whole.

        Those in trash are taken out of it on the way.
        """
        for archive in self._context.folders.load(self._name).manifest.archives:
            index = snapshot_index(self._files, self._folder, archive.name)
            domain = index.header.domain
            for some in index.ids():
                ids = distinct(some)
                there = present(self._context.store, domain, ids)
                gone = [Address(domain, one.tobytes()) for one in ids[~there]]
                for at in range(0, len(gone), limits.FETCH_IDS_MAX):
                    yield gone[at : at + limits.FETCH_IDS_MAX]

    def take(self, addresses: Sequence[Address], blobs: Sequence[Buffer]) -> int:
        """Check each blob and put it in the place of the bad one; their bytes. Raises FormatError, CorruptChunk."""
        size = 0
        for address, blob in zip(addresses, blobs, strict=True):
            if address.domain == PLAIN_DOMAIN:
                self._context.decoders.plain.decode(blob, want=address)
            elif check_blob(blob).address != address:
                raise CorruptChunk(address.id.hex(), "another chunk arrived for it")
            self._context.store.put(address, bytes(blob) if not isinstance(blob, bytes) else blob)
            size += len(blob)
        return size
