"""A client's backup in the simulated world: any content, any order, any end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import trio
from blake3 import blake3

from ibs.core import limits, manifest
from ibs.core.ids import digest
from ibs.core.index import KIND_DATA, KIND_METADATA, ZERO_ID, tree_record
from ibs.core.manifest import Manifest, ManifestArchive, ManifestBlob
from ibs.core.names import SnapshotName
from ibs.engine.session.facts import SessionState
from ibs.engine.session.session import WriteSession
from ibs.errors import BusyError, ConflictError, IbsError, RefusedError, SessionLost
from ibs.storage.local.layout import snapshot_folder
from ibs.wire.session import ArchiveClose, CommitRequest, CommitResult, SessionOpen
from ibs_tests.sim.alphabet import KEYS, REGISTERED, Letter, by_id, letters
from ibs_tests.sim.model import NOWHERE, Promise, Snapshot, State, Violation
from ibs_tests.sim.world import World

OWNER, STRANGER = "alice@ibs", "mallory@ibs"
GROUPS = ("host/web01", "host/web02", "vm/100", "vm/101", "host/safe", "ns:a/host/web01", "ns:b/vm/100")
ENCRYPTED_GROUP = "host/safe"
ALIVE = (SessionState.OPEN, SessionState.COMMITTING)
ARCHIVES = ("a.tree", "b.img", "c.tree")


@dataclass(eq=False)
class Client:
    """One backup as its client sees it."""

    world: World
    rng: Random
    group: str
    owner: str = OWNER
    session: WriteSession = field(init=False)
    promise: Promise = field(init=False)
    content: dict[str, list[Letter | None]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    closed: dict[str, ManifestArchive] = field(default_factory=dict)

    @property
    def encrypted(self) -> bool:
        return self.group == ENCRYPTED_GROUP

    # --- steps ---

    async def open(self) -> None:
        """Open the session, and believe what the answer says is there."""
        world, model = self.world, self.world.model
        archives = self.rng.sample(ARCHIVES, self.rng.randint(1, 2))
        name = SnapshotName.parse(self.group)
        request = SessionOpen(
            store="s1",
            group=str(name.group),
            namespace=str(name.namespace),
            archives=archives,
            key_fingerprint=REGISTERED.fingerprint if self.encrypted else "",
            use_base=self.rng.random() < 0.85,
        )
        owned = model.of_group(self.group)
        self.session = await world.datastore.sessions.open(self.owner, request, upid=f"UPID:{self.owner}")
        world.alive()
        if any(each.owner != self.owner and each.readable for each in owned):
            raise Violation("a group has one owner", f"{self.owner} may write to {self.group}")
        moment = SnapshotName.parse(self.session.opened.snapshot).time
        for each in owned:
            if each.readable and moment is not None and (SnapshotName.parse(each.name).time or moment) >= moment:
                raise Violation("snapshot times grow", f"{self.session.opened.snapshot} is not after {each.name}")
        session, store = self.session, world.datastore.store
        # A failed flush condemns what was received: nothing of it can be committed any more.
        self.promise = Promise(
            f"session {session.session_id[:6]}", lambda: session.state in ALIVE and store.status[0] == "online"
        )
        self.content = {archive: [] for archive in archives}
        model.promises[self.promise] = None
        await self._believe()

    async def _believe(self) -> None:
        """What the server says may be reused is a promise."""
        known = by_id(encrypted=self.encrypted)
        found: list[Letter] = []
        for base in self.session.opened.bases:
            index = await self.session.base_index(base.archive)
            bits = await self.session.base_available(base.archive)
            size = 40 if base.archive.endswith(".tree") else 32
            ids = [index[at : at + 32] for at in range(256, len(index), size)]
            found += [known[one] for at, one in enumerate(ids) if bits[at // 8] >> at % 8 & 1 and one != ZERO_ID]
        resumed = await self.session.resumed_ids()
        if resumed:
            self.world.count("backup.resumed")
        found += [known[resumed[at : at + 32]] for at in range(0, len(resumed), 32)]
        self.world.alive()
        self._promised(found)

    def _promised(self, found: Sequence[Letter]) -> None:
        if self.promise.holds():
            self.promise.letters.update(letter.name for letter in found)
            self.world.model.check_promised(self.promise.who, list(found))

    async def send(self, some: Sequence[Letter]) -> None:
        """One body."""
        lacking = self.world.model.lacking(list(some))
        await self.session.send([self.rng.choice(letter.blobs) for letter in some])
        self.world.alive()
        if self.promise.holds():
            self.world.model.check_healed(self.promise.who, lacking)
        self._promised(some)

    def choose_content(self) -> None:
        """What the archives will hold; some of it is there already."""
        alphabet = letters(encrypted=self.encrypted)[: self.world.letters]
        start = self.rng.randrange(len(alphabet))
        near = [alphabet[(start + at) % len(alphabet)] for at in range(self.rng.randint(3, min(10, len(alphabet))))]
        for archive in self.content:
            some: list[Letter | None] = list(self.rng.sample(near, self.rng.randint(1, len(near))))
            if archive.endswith(".img"):
                some += self.rng.choices([*some, None], k=self.rng.randint(0, 3))
            self.content[archive] = some

    def records(self, archive: str) -> bytes:
        """Of the whole archive."""
        some = self.content[archive]
        if archive.endswith(".img"):
            return b"".join(letter.address.id if letter else ZERO_ID for letter in some)
        last = len(some) - 1
        return b"".join(
            tree_record(letter.address.id, len(letter.plain), KIND_METADATA if at == last else KIND_DATA)
            for at, letter in enumerate(some)
            if letter
        )

    async def upload(self) -> None:
        """Send what is not promised yet, in bodies of any size, some at once."""
        used = [letter for some in self.content.values() for letter in some if letter]
        wanted = [letter for letter in dict.fromkeys(used) if letter.name not in self.promise.letters]
        again = [letter for letter in dict.fromkeys(used) if letter not in wanted and self.rng.random() < 0.15]
        wanted += again
        while wanted:
            count = self.rng.randint(1, 4)
            some, wanted = wanted[:count], wanted[count:]
            if wanted and self.rng.random() < 0.3:
                other, wanted = wanted[:2], wanted[2:]
                failed: list[IbsError] = []
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_alone, some, failed)
                    nursery.start_soon(self._send_alone, other, failed)
                if failed:
                    raise failed[0]
            else:
                await self.send(some)
            await self.world.pause()

    async def _send_alone(self, some: Sequence[Letter], failed: list[IbsError]) -> None:
        try:
            await self.send(some)
        except IbsError as error:
            failed.append(error)

    async def finish_archives(self) -> None:
        """Records in one or two parts, sometimes twice, then the close."""
        for archive in self.content:
            records = self.records(archive)
            size = 40 if archive.endswith(".tree") else 32
            count = len(records) // size
            cut = self.rng.randint(0, count)
            await self.session.append(archive, 0, records[: cut * size])
            if self.rng.random() < 0.5:
                await self.world.pause()
            first = self.rng.randint(0, cut)
            await self.session.append(archive, first, records[first * size :])
            await self._close_archive(archive, count)

    async def _close_archive(self, archive: str, count: int) -> None:
        image = archive.endswith(".img")
        some = [letter for letter in self.content[archive] if letter]
        plain = count * limits.IMAGE_CHUNK_BYTES if image else sum(len(letter.plain) for letter in some)
        root = "" if image else some[-1].address.id.hex()
        closed = await self.session.close_archive(archive, ArchiveClose(plain_bytes=plain, records=count, root=root))
        self.closed[archive] = ManifestArchive(
            name=archive,
            kind="img" if image else "tree",
            plain_bytes=plain,
            records=count,
            index_bytes=closed.index_bytes,
            index_digest=closed.index_digest,
            key_fingerprint=REGISTERED.fingerprint if self.encrypted else "",
        )

    def request(self) -> CommitRequest:
        """The manifest, signed where it must be."""
        opened, world = self.session.opened, self.world
        stated = Manifest(
            datastore=opened.datastore_uuid,
            snapshot=opened.snapshot,
            sequence=opened.sequence,
            previous=opened.previous_manifest_digest,
            created=opened.snapshot[-20:],
            client=f"sim {world.machine.calls}",
            owner=self.owner,
            mode="encrypted" if self.encrypted else "plain",
            key_fingerprint=REGISTERED.fingerprint if self.encrypted else "",
            archives=tuple(self.closed.values()),
            blobs=tuple(
                ManifestBlob(name=name, bytes=len(data), digest=digest(data).hex()) for name, data in self.blobs.items()
            ),
            run=opened.base_run + 1 if opened.bases else 0,
        )
        raw = manifest.encode(stated)
        signature = manifest.sign(raw, KEYS.signing_seed, "client").signature if self.encrypted else ""
        return CommitRequest(manifest=raw.decode(), signature=signature)

    def snapshot(self, request: CommitRequest) -> Snapshot:
        """What must be on the disk once the commit is answered."""
        name = self.session.opened.snapshot
        return Snapshot(
            name=name,
            folder=snapshot_folder(SnapshotName.parse(name)),
            group=self.group,
            owner=self.owner,
            manifest=request.manifest.encode(),
            digests={archive: closed.index_digest for archive, closed in self.closed.items()},
            records={archive: self.records(archive) for archive in self.closed},
            blobs=dict(self.blobs),
            letters=frozenset(letter.name for some in self.content.values() for letter in some if letter),
            encrypted=self.encrypted,
        )

    async def commit(self) -> None:
        """Ask for it; believe the answer. A client that hears nothing asks again."""
        world, model = self.world, self.world.model
        request = self.request()
        snapshot = self.snapshot(request)
        model.asked(snapshot)
        refused_already, hold = world.taken_over, world.quarantined
        bad_before = {name for name in snapshot.letters if model.chunk_file(name) is None and not model.received(name)}
        try:
            result = await self._ask(request)
        except IbsError:
            world.alive()
            if model.where(snapshot) == NOWHERE:
                model.snapshots.pop(snapshot.manifest)
            raise
        except trio.Cancelled:
            world.alive()  # the server stops: it may have been finished or not
            raise
        world.check_hold(hold, "a commit")
        self._believe_commit(snapshot, result, refused_already=refused_already, bad_before=bad_before)

    async def _ask(self, request: CommitRequest) -> CommitResult:
        if self.rng.random() < 0.8:
            return await self.session.commit(request)
        results: list[CommitResult] = []
        errors: list[IbsError] = []

        async def ask() -> None:
            try:
                results.append(await self.world.datastore.sessions.commit(self.session.session_id, self.owner, request))
            except IbsError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:  # the same request twice at once
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        if errors:
            raise errors[0]
        if results[0] != results[1]:
            raise Violation("a commit has one answer", f"{results}")
        return results[0]

    def _believe_commit(
        self, snapshot: Snapshot, result: CommitResult, *, refused_already: bool, bad_before: set[str]
    ) -> None:
        world = self.world
        world.alive()
        if snapshot.state is State.COMMITTING:  # else somebody has moved it on already
            snapshot.state = State.ACKNOWLEDGED
        world.count("backup.committed")
        world.tell(f"committed {snapshot.name} ({len(snapshot.letters)} chunks, {result.new_chunks} new)")
        if refused_already:
            raise Violation("only the owner writes", f"{snapshot.name} was committed after another server took over")
        if blake3(snapshot.manifest).hexdigest() != result.manifest_digest:
            raise Violation("a commit has one answer", "the digest answered is another manifest's")
        model = world.model  # what was missing may have come since, by another backup
        gone = sorted(name for name in bad_before if model.chunk_file(name) is None and not model.received(name))
        if gone:
            raise Violation("a commit looks for its chunks", f"{snapshot.name}: {gone[0][:16]} was known to be missing")
        world.model.check(when=f"after the commit of {snapshot.name}")


async def backup(world: World) -> None:
    """One backup, from opening to whatever end."""
    rng = Random(world.rng.random())
    client = Client(world, rng, rng.choice(GROUPS))
    await client.open()
    try:
        await _go_on(world, client, rng)
    finally:
        if rng.random() < 0.7:
            client.session.lose_peer()  # no farewell, and the connection is gone


async def _go_on(world: World, client: Client, rng: Random) -> None:
    world.tell(f"backup of {client.group} opens {client.session.session_id[:6]} for {client.session.opened.snapshot}")
    client.choose_content()
    fate = rng.randrange(10)
    if fate == 0:
        await client.send([letter for some in client.content.values() for letter in some if letter][:2])
        world.count("backup.left alone")
        return
    await client.upload()
    if fate == 1:
        await client.session.abort("changed my mind")
        world.count("backup.aborted")
        return
    if fate == 2:
        with trio.move_on_after(0):
            await client.finish_archives()
    await world.pause()
    if rng.random() < 0.3:
        client.blobs["client.log"] = rng.randbytes(rng.randint(1, 200))
        await client.session.put_blob("client.log", client.blobs["client.log"])
    if rng.random() < 0.3 and client.promise.letters:
        await _read_back(world, client, rng)
    client.closed.clear()
    await client.finish_archives()
    if fate == 3:
        world.count("backup.left before commit")
        return
    await world.pause()
    await client.commit()


async def _read_back(world: World, client: Client, rng: Random) -> None:
    """A chunk that the session may read."""
    letter = rng.choice([one for one in letters(encrypted=client.encrypted) if one.name in client.promise.letters])
    blob = await client.session.base_chunk(letter.address.id)
    world.alive()
    if blob not in letter.blobs:
        raise Violation("never wrong bytes", f"base chunk {letter.name[:16]}")


async def stranger(world: World) -> None:
    """Somebody else tries to write to a group that has an owner."""
    rng = Random(world.rng.random())
    owned = sorted({each.group for each in world.model.snapshots.values() if each.readable})
    if not owned:
        return
    client = Client(world, rng, rng.choice(owned), owner=STRANGER)
    try:
        await client.open()
    except (RefusedError, BusyError):
        world.count("stranger refused")
        return
    except IbsError as error:
        world.refused("stranger", error)
        return
    try:  # the owner's snapshots were all forgotten meanwhile: then the group is nobody's
        await client.session.abort("not mine")
    except (SessionLost, ConflictError):
        return
