"""A datastore in a folder, as the engine sees it, and a small client that backs up and reads back. For tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ibs.core import limits, manifest
from ibs.core.blob import BlobDecoder, BlobEncoder
from ibs.core.events import Event
from ibs.core.ids import PLAIN_DOMAIN, Address, chunk_id, hex_fingerprint
from ibs.core.index import KIND_DATA, KIND_METADATA, ZERO_ID, tree_record
from ibs.core.keys import DataKeys
from ibs.core.manifest import Manifest, ManifestArchive, ManifestBlob
from ibs.core.names import SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.folders import SnapshotFolders
from ibs.engine.readers import Reader
from ibs.engine.session.session import WriteSession
from ibs.ports.catalog import KeyRegistry, NoKeys, RegisteredKey
from ibs.ports.pool import Pool
from ibs.runtime.clock import ManualClock
from ibs.runtime.pool import InlinePool
from ibs.storage.local import LocalStore, Options
from ibs.storage.local.layout import chunk_name
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs.wire.session import ArchiveClose, CommitRequest, CommitResult, SessionOpen

OWNER = "alice@ibs"
OTHER = "bob@ibs"
SERVER = "11111111-2222-4333-8444-555555555555"
STORE_UUID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SEED = bytes(range(32))


def counting_entropy() -> Callable[[int], bytes]:
    """Bytes that never repeat, the same in each run."""
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(count, "big")


@dataclass
class Box:
    """One datastore below `path`, opened, closed and killed at will. `name` is s1."""

    path: str
    clock: ManualClock = field(default_factory=ManualClock)
    pool: Pool = field(default_factory=InlinePool)
    keys: KeyRegistry = field(default_factory=NoKeys)
    options: Options = field(default_factory=Options)
    entropy: Callable[[int], bytes] = field(default_factory=counting_entropy)
    events: list[Event] = field(default_factory=list)
    opened: list[LocalStore] = field(default_factory=list)
    uuid: str = STORE_UUID

    def create(self) -> Box:
        LocalStore.create(self.path, "s1", self.uuid, created=self.clock.now())
        return self

    def open_store(self) -> LocalStore:
        """The store alone."""
        store = LocalStore.open(self.path, self.uuid, SERVER, name="s1", options=self.options)
        self.opened.append(store)
        return store

    async def open(self) -> Datastore:
        store = self.open_store()
        context = StoreContext(
            name="s1",
            uuid=self.uuid,
            generation=store.epoch,
            store=store,
            folders=SnapshotFolders(store.snapshots),
            pool=self.pool,
            clock=self.clock,
            entropy=self.entropy,
            keys=self.keys,
            publish=self.events.append,
            signing_seed=SEED,
        )
        datastore = Datastore(context)
        await datastore.recover()
        return datastore

    def close(self) -> None:
        """Let go of whatever is still open."""
        for store in self.opened:
            store.close(clean=False)

    def chunk_path(self, address: Address) -> Path:
        """Where a promoted chunk lies."""
        name = chunk_name(address)
        return Path(self.path) / "chunks" / name[:4] / name

    def spoil(self, data: bytes) -> None:
        """Flip a byte of the stored chunk that holds `data` (plain)."""
        path = self.chunk_path(address_of(data))
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)

    def kinds(self) -> list[str]:
        """What was told on the bus."""
        return [event.kind for event in self.events]

    async def kill(self, datastore: Datastore) -> Datastore:
        """End the store as a killed process would, and open it again."""
        datastore.store.close(clean=False)
        return await self.open()


def address_of(data: bytes) -> Address:
    """Address of a plain chunk."""
    return Address(PLAIN_DOMAIN, chunk_id(data))


@dataclass
class KnownKeys:
    """A register of the given keys; `required`: encryption is demanded everywhere."""

    known: dict[str, RegisteredKey]
    required: bool = False

    async def find(self, store: str, namespace: str, fingerprint: str) -> RegisteredKey | None:
        return self.known.get(fingerprint)

    async def encryption_required(self, store: str, namespace: str) -> bool:
        return self.required


def key_registry(*keys: DataKeys, required: bool = False) -> KnownKeys:
    """A registry that knows exactly these keys."""
    known = [RegisteredKey(hex_fingerprint(each.fingerprint), manifest.public_key(each.signing_seed)) for each in keys]
    return KnownKeys({key.fingerprint: key for key in known}, required)


@dataclass
class Writer:
    """What a client does, with chunks given as plain bytes. `data` of a tree archive: its root chunk comes last."""

    session: WriteSession
    keys: DataKeys | None = None
    encoder: BlobEncoder = field(init=False)
    archives: dict[str, ManifestArchive] = field(default_factory=dict)
    blobs: list[ManifestBlob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.encoder = BlobEncoder(keys=self.keys)

    def blob(self, data: bytes) -> bytes:
        return bytes(self.encoder.encode(data, self.encoder.identify(data)))

    def id(self, data: bytes) -> bytes:
        return self.encoder.identify(data)

    async def send(self, *chunks: bytes) -> None:
        await self.session.send([self.blob(data) for data in chunks])

    def records(self, archive: str, chunks: Sequence[bytes]) -> bytes:
        """Index records of chunks; b"" is a zero block of an image."""
        if archive.endswith(".img"):
            return b"".join(self.id(data) if data else ZERO_ID for data in chunks)
        kinds = [KIND_DATA] * (len(chunks) - 1) + [KIND_METADATA]
        rows = zip(chunks, kinds, strict=True)
        return b"".join(tree_record(self.id(data), len(data), kind) for data, kind in rows)

    async def append(self, archive: str, chunks: Sequence[bytes], first: int = 0) -> None:
        await self.session.append(archive, first, self.records(archive, chunks))

    async def close(self, archive: str, chunks: Sequence[bytes]) -> ManifestArchive:
        image = archive.endswith(".img")
        plain = len(chunks) * limits.IMAGE_CHUNK_BYTES if image else sum(len(data) for data in chunks)
        root = "" if image else self.id(chunks[-1]).hex()
        close = ArchiveClose(plain_bytes=plain, records=len(chunks), root=root)
        closed = await self.session.close_archive(archive, close)
        self.archives[archive] = ManifestArchive(
            name=archive,
            kind="img" if image else "tree",
            plain_bytes=plain,
            records=len(chunks),
            index_bytes=closed.index_bytes,
            index_digest=closed.index_digest,
            key_fingerprint=hex_fingerprint(self.keys.fingerprint) if self.keys else "",
        )
        return self.archives[archive]

    async def archive(self, archive: str, chunks: Sequence[bytes], *, send: bool = True) -> None:
        """Send, append and close."""
        if send:
            await self.send(*[data for data in chunks if data])
        await self.append(archive, chunks)
        await self.close(archive, chunks)

    async def put_blob(self, name: str, content: bytes) -> None:
        await self.session.put_blob(name, content)
        self.blobs.append(ManifestBlob(name=name, bytes=len(content), digest=BlobEncoder().identify(content).hex()))

    def manifest(self, **changes: Any) -> Manifest:
        opened = self.session.opened
        fingerprint = hex_fingerprint(self.keys.fingerprint) if self.keys else ""
        values: dict[str, Any] = {
            "datastore": opened.datastore_uuid,
            "snapshot": opened.snapshot,
            "sequence": opened.sequence,
            "previous": opened.previous_manifest_digest,
            "created": opened.snapshot[-20:],
            "client": "test 1",
            "owner": self.session.facts.auth_id,
            "mode": "encrypted" if self.keys else "plain",
            "key_fingerprint": fingerprint,
            "archives": tuple(self.archives.values()),
            "blobs": tuple(self.blobs),
            "run": opened.base_run + 1 if opened.bases else 0,
        }
        return Manifest(**(values | changes))

    def request(self, stated: Manifest | None = None) -> CommitRequest:
        raw = manifest.encode(stated if stated is not None else self.manifest())
        signature = manifest.sign(raw, self.keys.signing_seed, "client").signature if self.keys else ""
        return CommitRequest(manifest=raw.decode(), signature=signature)

    async def commit(self) -> CommitResult:
        return await self.session.commit(self.request())


async def start(
    datastore: Datastore,
    *archives: str,
    auth_id: str = OWNER,
    group: str = "host/web01",
    keys: DataKeys | None = None,
    signing: DataKeys | None = None,
    **options: Any,
) -> Writer:
    """Open a session for `archives`."""
    if signing is not None:
        options["signing_key"] = hex_fingerprint(signing.fingerprint)
    fingerprint = hex_fingerprint(keys.fingerprint) if keys else ""
    request = SessionOpen(
        store="s1", group=group, archives=list(archives or ("etc.tree",)), key_fingerprint=fingerprint, **options
    )
    return Writer(await datastore.sessions.open(auth_id, request, upid=f"UPID:{auth_id}"), keys)


async def backup(datastore: Datastore, content: Mapping[str, Sequence[bytes]], **options: Any) -> CommitResult:
    """A whole backup: every archive with its chunks, all of them sent."""
    writer = await start(datastore, *content, **options)
    for archive, chunks in content.items():
        await writer.archive(archive, chunks)
    return await writer.commit()


async def read(datastore: Datastore, snapshot: str, archive: str, *, keys: DataKeys | None = None) -> list[bytes]:
    """The plain chunks of an archive, through a reader and everything it checks. Zero blocks are b""."""
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=snapshot), everything=True)
    index = await reader.file(f"{archive}.idx")
    size = 32 if archive.endswith(".img") else 40
    ids = [index[at : at + 32] for at in range(256, len(index), size)]
    domain = keys.fingerprint if keys else PLAIN_DOMAIN
    decoder = BlobDecoder(keys=keys)
    found: dict[bytes, bytes] = {}
    stored = [chunk for chunk in dict.fromkeys(ids) if chunk != ZERO_ID]
    for start_at in range(0, len(stored), limits.FETCH_IDS_MAX):
        some = stored[start_at : start_at + limits.FETCH_IDS_MAX]
        for chunk, blob in zip(some, await reader.fetch(some), strict=True):
            found[chunk] = decoder.decode(blob, want=Address(domain, chunk))
    await close(datastore, reader)
    return [found.get(chunk, b"") for chunk in ids]


async def close(datastore: Datastore, reader: Reader) -> None:
    await datastore.readers.close_reader(reader.reader_id, reader.auth_id, ReaderClose())


def snapshot_of(result: CommitResult) -> SnapshotName:
    return SnapshotName.parse(result.snapshot)
