"""Verifying one snapshot: what is stored is there, whole, signed, and where it can be proven, the right content.

Used by `services`. Levels of proof, each named in the report only if it was reached for everything in the snapshot:
`presence`, `stored digest`, `content id` (plain chunks; encrypted ones need the key, which is not here), `signature`.
A read that fails (a disk gone, a mount lost) raises and says nothing about the data: it never marks anything corrupt.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import trio

from ibs.core import limits
from ibs.core import manifest as manifests
from ibs.core.events import EventSource, Severity
from ibs.core.ids import digest
from ibs.core.index import IdArray
from ibs.core.manifest import VerifyState
from ibs.core.names import SnapshotName, format_time
from ibs.engine.affected import find_affected, mark_affected
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.idset import IdSet
from ibs.engine.modes import Use
from ibs.engine.namedchunks import NamedChunks
from ibs.engine.readers import Reader
from ibs.errors import (
    ChunkNotFound,
    DatastoreReadOnly,
    FormatError,
    NoSpace,
    NotFoundError,
    SignatureInvalid,
)
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address, ChunkState
from ibs.storage.local import Checked
from ibs.wire.datastore import VerifyReport
from ibs.wire.reader import ReaderClose, ReaderOpen

OK, CORRUPT, MISSING = "OK", "CORRUPT", "MISSING"
PRESENCE, STORED_DIGEST, CONTENT_ID, SIGNATURE = "presence", "stored digest", "content id", "signature"

Progress = Callable[["VerifyProgress"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far one snapshot is. `bytes` are those read; `reused` chunks were checked earlier in the same run."""

    done: int
    total: int
    bytes: int
    reused: int
    bad: int


Pace = Callable[[int], Awaitable[object]]
"""Wait until so many bytes more may be read."""


@dataclass
class VerifyRun:
    """What one run over several snapshots shares. Keep one for the length of a run, no longer.

    `since`: chunks checked at this time (seconds since 1970) or later, and not touched after it, are not read again;
    None reads every chunk once. `reads` bounds the threads that all snapshots of the run read with.
    """

    since: int | None = None
    pace: Pace | None = None
    hop: int = limits.VERIFY_HOP_CHUNKS
    reads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(limits.VERIFY_READS_MAX))
    bad: dict[Address, str] = field(default_factory=dict)
    """With the result, CORRUPT or MISSING."""
    hurt: dict[SnapshotName, frozenset[Address]] = field(default_factory=dict)
    """Snapshots known to name some of `bad`."""
    unsought: set[Address] = field(default_factory=set)
    """Those of `bad` for which the indexes were not searched yet; see `seek`."""
    scans: int = 0
    _seen: dict[bytes, IdSet] = field(default_factory=dict)

    def seen(self, address: Address) -> bool:
        """Whether it was read and good in this run, as far as is remembered."""
        known = self._seen.get(address.domain)
        return known is not None and address.id in known

    def note_good(self, address: Address) -> None:
        """Remember it, within bounds: what is forgotten is read once more, or found in the ledger."""
        known = self._seen.setdefault(address.domain, IdSet())
        if len(known) < limits.VERIFY_SEEN_IDS_MAX and address.id not in known:
            known.add([address.id])

    def note_bad(self, address: Address, result: str) -> None:
        """Remember it, and that its victims are to be found."""
        if address not in self.bad:
            self.unsought.add(address)
        self.bad[address] = result

    async def seek(self, datastore: Datastore, upid: str = "") -> None:
        """Find and mark every snapshot that names a bad chunk which was not searched for yet. Reads all indexes."""
        sought = frozenset(self.unsought)
        if not sought:
            return
        self.scans += 1
        self.unsought -= sought
        found = await datastore.context.pool.disk(find_affected, datastore.context, sought)
        for name, chunks in found.items():
            self.hurt[name] = self.hurt.get(name, frozenset()) | chunks
        await mark_affected(datastore, found, self.bad, upid)

    def affected_by(self, bad: Collection[Address]) -> list[SnapshotName]:
        """Snapshots known to name one of these."""
        wanted = frozenset(bad)
        return [name for name, chunks in self.hurt.items() if chunks & wanted]


@dataclass
class _Findings:
    total: int = 0
    done: int = 0
    bytes: int = 0
    reused: int = 0
    unproven: int = 0
    corrupt: int = 0
    missing: int = 0
    first: str = ""
    oldest: int = 0
    """When the check was made that is relied on and lies furthest back; seconds since 1970, 0 when all were read."""
    bad: list[Address] = field(default_factory=list)

    def fail(self, result: str, what: str, address: Address | None = None) -> None:
        self.first = self.first or what
        self.corrupt += result == CORRUPT
        self.missing += result == MISSING
        if address is not None:
            self.bad.append(address)

    @property
    def result(self) -> str:
        return CORRUPT if self.corrupt else MISSING if self.missing else OK


async def verify_snapshot(
    datastore: Datastore,
    name: SnapshotName,
    progress: Progress | None = None,
    *,
    run: VerifyRun | None = None,
    upid: str = "",
    auth_id: str = "root@ibs",
) -> VerifyReport:
    """Check everything of one snapshot, note the result in its state, and report it.

    With something bad, the report lists every snapshot of the datastore that refers to it. Raises NotFoundError when
    the snapshot is not there; DatastoreOffline, FailedError and the like when it cannot be read, and then nothing is
    noted. *Cancellation*: reads under way are finished, nothing is noted. *Durability*: the result is, when it returns;
    a store that takes no writes is verified all the same, and an event says that the result was not noted.
    """
    context = datastore.context
    clock = context.clock
    began, began_at = clock.now(), clock.monotonic()
    found = await datastore.snapshots.resolve(name)
    run = run if run is not None else VerifyRun()
    with context.modes.using(Use.VERIFY):
        findings, proof, before = await _check(datastore, found, run, progress, auth_id)
    if run.scans < limits.VERIFY_SCANS_MAX:
        await run.seek(datastore, upid)
    report = VerifyReport(
        snapshot=str(found),
        started=format_time(began),
        duration_seconds=round(clock.monotonic() - began_at, 3),
        chunks=findings.done,
        bytes=findings.bytes,
        result=findings.result,
        proof=proof,
        first_failure=findings.first,
        upid=upid,
        bad_chunks=[address.id.hex() for address in findings.bad[: limits.VERIFY_BAD_CHUNKS_LISTED]],
        affected=[str(each) for each in run.affected_by(findings.bad)],
        read=findings.done - findings.reused,
        oldest_check=_moment(findings.oldest),
        healed=findings.result == OK and before not in ("", OK),
        store=datastore.name,
    )
    await _note(datastore, found, report)
    return report


async def _check(
    datastore: Datastore, name: SnapshotName, run: VerifyRun, progress: Progress | None, auth_id: str
) -> tuple[_Findings, list[str], str]:
    """What was found, what was proven, and the result of the time before."""
    context, findings = datastore.context, _Findings()
    context.folders.forget(name)
    try:
        request = ReaderOpen(snapshot=str(name), purpose="verify")
        reader = await _open(datastore, name, request, auth_id)
    except FormatError as error:
        findings.fail(CORRUPT, error.message)
        return findings, [], ""
    except NotFoundError as error:
        if not await context.pool.disk(context.folders.exists, name):
            raise
        findings.fail(MISSING, error.message)  # a file that the manifest lists
        return findings, [], ""
    check = _SnapshotCheck(context, reader, run, progress)
    try:
        with reader.held():
            await check.check()
    finally:
        with trio.CancelScope(shield=True):  # one folder to remove
            await datastore.readers.close_reader(reader.reader_id, auth_id, ReaderClose())
    before = reader.stored.state.verify
    return check.findings, check.proof, before.result if before is not None else ""


async def _open(datastore: Datastore, name: SnapshotName, request: ReaderOpen, auth_id: str) -> Reader:
    """A reader of the snapshot. What is not found at first may be on its way to the bin, or back: look again."""
    try:
        return await datastore.readers.open(auth_id, request, everything=True)
    except NotFoundError:
        if not await datastore.context.pool.disk(datastore.context.folders.exists, name):
            raise
    return await datastore.readers.open(auth_id, request, everything=True)


class _Slices:
    """The chunks of a snapshot as its readers take them: enough slices for each, none so big that progress suffers."""

    def __init__(self, context: StoreContext, named: NamedChunks, hop: int) -> None:
        share = named.total // (2 * limits.VERIFY_READS_MAX)
        self._size = max(hop, min(share, limits.VERIFY_LOOK_CHUNKS))
        self._pool = context.pool
        self._pieces = named.pieces()
        self._lock = trio.Lock()
        self._waiting: deque[tuple[bytes, IdArray]] = deque()

    async def next(self) -> tuple[bytes, IdArray] | None:
        """Domain and ids of a slice that nobody else got; None when there are no more."""
        async with self._lock:
            while not self._waiting:
                piece = await self._pool.disk(lambda: next(self._pieces, None))
                if piece is None:
                    return None
                domain, ids = piece
                self._waiting.extend((domain, ids[at : at + self._size]) for at in range(0, len(ids), self._size))
            return self._waiting.popleft()


class _SnapshotCheck:
    """One snapshot under a lease: signature, blobs, indexes, chunks. `proof` loses levels that were not reached."""

    def __init__(self, context: StoreContext, reader: Reader, run: VerifyRun, progress: Progress | None) -> None:
        self.findings = _Findings()
        self.proof = [PRESENCE, STORED_DIGEST, CONTENT_ID, SIGNATURE]
        self._context = context
        self._stored = reader.stored
        self._reader = reader
        self._run = run
        self._progress = progress
        self._named = NamedChunks()

    async def check(self) -> None:
        """Raises what makes reading impossible; what is wrong with the data is in `findings`."""
        pool, findings = self._context.pool, self.findings
        await pool.cpu(self._check_signature)
        await pool.disk(self._check_blobs)
        await pool.disk(self._check_indexes)
        await self._check_chunks()
        if findings.missing or findings.corrupt:
            self.proof = [level for level in self.proof if level == SIGNATURE]
        elif findings.unproven:
            self.proof.remove(CONTENT_ID)

    def _check_signature(self) -> None:
        """A signature that does not fit is corruption; one by a signer we cannot vouch for is only no proof."""
        stored, findings = self._stored, self.findings
        try:
            manifests.verify(stored.manifest_bytes, stored.signature)
        except SignatureInvalid as error:
            findings.fail(CORRUPT, f"{stored.name}: {error.message}")
            self.proof.remove(SIGNATURE)
            return
        ours = manifests.public_key(self._context.signing_seed).hex()
        if stored.signature.by != "server" or stored.signature.signer != ours:
            self.proof.remove(SIGNATURE)
        brought = stored.state.brought
        home = self._context.uuid if isinstance(brought, msgspec.UnsetType) else brought.datastore
        if stored.manifest.datastore not in {self._context.uuid, home}:
            findings.fail(CORRUPT, f"{stored.name}: its manifest is of datastore {stored.manifest.datastore}")

    def _check_blobs(self) -> None:
        stored, findings = self._stored, self.findings
        for blob in stored.manifest.blobs:
            try:
                # Under the lease: the snapshot may be moved to the bin and back while it is verified.
                content = self._reader.pinned(blob.name, limits.SNAPSHOT_BLOB_BYTES_MAX + 1)
            except NotFoundError:
                findings.fail(MISSING, f"{stored.name}: blob {blob.name} is missing")
                continue
            if len(content) != blob.bytes or digest(content).hex() != blob.digest:
                findings.fail(CORRUPT, f"{stored.name}: blob {blob.name} does not match the manifest")

    def _check_indexes(self) -> None:
        """Gather every chunk that the good indexes name, each once."""
        stored, findings = self._stored, self.findings
        for archive in stored.manifest.archives:
            try:
                index = self._reader.pinned_index(archive.name)
                self._named.add(archive.name, index, archive.index_digest)
            except NotFoundError:
                findings.fail(MISSING, f"{stored.name}: the index of {archive.name} is missing")
            except FormatError as error:
                findings.fail(CORRUPT, f"{stored.name}: index of {archive.name}: {error.message}")

    async def _check_chunks(self) -> None:
        """Read all chunks that must be, a bounded number at once. The first failure to read ends it."""
        self.findings.total = self._named.total
        slices = _Slices(self._context, self._named, self._run.hop)
        failed: list[Exception] = []

        async def work() -> None:
            try:
                while (some := await slices.next()) is not None:
                    await self._check_slice(*some)
            except Exception as error:  # noqa: BLE001 - handed to the caller below, alone and unwrapped
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the reads of this verification
            for _ in range(limits.VERIFY_READS_MAX):
                nursery.start_soon(work)
        if failed:
            raise failed[0]

    async def _check_slice(self, domain: bytes, ids: IdArray) -> None:
        findings, run, pool = self.findings, self._run, self._context.pool
        findings.unproven += len(ids) if domain != PLAIN_DOMAIN else 0
        unread: list[Address] = []
        addresses = [Address(domain, each.tobytes()) for each in ids]
        known_bad = [address for address in addresses if address in run.bad]
        bad = await pool.disk(self._still_bad, known_bad) if known_bad else frozenset()
        for address in addresses:
            if address in bad:
                await self._fail(run.bad[address], address, f"{run.bad[address]} chunk {address.id.hex()}")
                findings.done += 1
            elif run.seen(address):
                findings.reused += 1
                findings.done += 1
            else:
                unread.append(address)
        if run.since is not None and unread:
            now = self._context.clock.now_ns() // 1_000_000_000
            times = await pool.disk(self._context.store.proven, unread, run.since, now)
            relied = [when for when in times if when is not None]
            findings.oldest = min([*relied, *([findings.oldest] if findings.oldest else [])], default=0)
            findings.reused += len(relied)
            findings.done += len(relied)
            unread = [address for address, when in zip(unread, times, strict=True) if when is None]
        await self._progressed()
        for at in range(0, len(unread), run.hop):
            async with run.reads:
                found = await pool.disk(self._read, unread[at : at + run.hop])
            await self._take(found)

    def _still_bad(self, addresses: Sequence[Address]) -> frozenset[Address]:
        """Those that no backup has healed since this run found them bad; the others are read like any."""
        infos = self._context.store.info(addresses)
        return frozenset(one.address for one in infos if one.state not in (ChunkState.DURABLE, ChunkState.RECEIVED))

    def _read(self, addresses: Sequence[Address]) -> list[Checked]:
        """One hop: read, prove, and tell the ledger at once, so that a run that is cut short was not in vain."""
        store = self._context.store
        found = store.check(addresses)
        good = [each.address for each in found if each.error is None]
        with contextlib.suppress(DatastoreReadOnly, NoSpace):  # a store that takes no writes is verified all the same
            store.record_verified(good, self._context.clock.now_ns() // 1_000_000_000)
        return found

    async def _take(self, found: Sequence[Checked]) -> None:
        findings, run = self.findings, self._run
        for each in found:
            if each.error is None:
                run.note_good(each.address)
                findings.bytes += each.stored_bytes
            else:
                result = MISSING if isinstance(each.error, ChunkNotFound) else CORRUPT
                run.note_bad(each.address, result)
                await self._fail(result, each.address, each.error.message)
            findings.done += 1
        await self._progressed()
        if run.pace is not None:
            await run.pace(sum(each.stored_bytes for each in found))

    async def _fail(self, result: str, address: Address, what: str) -> None:
        # Only the first is told in words: looking for the archive of every chunk of a lost disk would take days.
        first = not self.findings.first
        self.findings.fail(result, what, address)
        if first:
            archive = await self._context.pool.disk(self._named.archive_of, address)
            self.findings.first = f"{what} ({self._stored.name}, archive {archive})"

    async def _progressed(self) -> None:
        findings = self.findings
        if self._progress is not None:
            bad = findings.corrupt + findings.missing
            await self._progress(VerifyProgress(findings.done, findings.total, findings.bytes, findings.reused, bad))


def _moment(seconds: int) -> str:
    return format_time(datetime.fromtimestamp(seconds, tz=UTC)) if seconds else ""


async def _note(datastore: Datastore, name: SnapshotName, report: VerifyReport) -> None:
    state = VerifyState(
        result=report.result,
        time=format_time(datastore.context.clock.now()),
        upid=report.upid,
        chunks=report.chunks,
        first_failure=report.first_failure,
        bytes=report.bytes,
        duration_seconds=report.duration_seconds,
        proof=report.proof,
    )
    try:
        await datastore.snapshots.set_verify(name, state)
    except (DatastoreReadOnly, NoSpace) as error:
        text = f"the result of verifying {name} could not be noted: {error.message}"[:1000]
        datastore.context.emit(EventSource.VERIFY, Severity.WARNING, "verify.not-noted", text, snapshot=str(name))
    if report.result != OK:
        datastore.context.emit(
            EventSource.VERIFY,
            Severity.CRITICAL,
            "verify.failed",
            f"{report.result}: {report.first_failure}"[:1000],
            snapshot=report.snapshot,
            result=report.result,
            bad_chunks=len(report.bad_chunks),
            affected=len(report.affected),
            upid=report.upid,
        )
