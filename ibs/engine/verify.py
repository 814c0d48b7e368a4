"""Verifying one snapshot: what is stored is there, whole, signed, and where it can be proven, the right content.

Used by `services`. Levels of proof, each named in the report only if it was reached for everything in the snapshot:
`presence`, `stored digest`, `content id` (plain chunks; encrypted ones need the key, which is not here), `signature`.
A read that fails (a disk gone, a mount lost) raises and says nothing about the data: it never marks anything corrupt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import trio

from ibs.core import limits
from ibs.core import manifest as manifests
from ibs.core.events import EventSource, Severity
from ibs.core.ids import ID_BYTES, digest
from ibs.core.index import IdLookup, check_records
from ibs.core.manifest import VerifyState
from ibs.core.names import SnapshotName, format_time
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.folders import StoredSnapshot
from ibs.engine.indexes import snapshot_index
from ibs.engine.references import of_snapshot
from ibs.engine.session.pins import id_array
from ibs.engine.session.records import distinct
from ibs.errors import (
    ChunkNotFound,
    CorruptChunk,
    DatastoreReadOnly,
    FormatError,
    NoSpace,
    NotFoundError,
    SignatureInvalid,
)
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
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


@dataclass
class VerifyRun:
    """What one run over several snapshots remembers: chunks already found good are not read again.

    Keep one for the length of a run, no longer: what was good yesterday need not be today.
    """

    good: set[Address] = field(default_factory=set)
    bad: dict[Address, str] = field(default_factory=dict)
    """With the result, CORRUPT or MISSING."""


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
    bad: list[Address] = field(default_factory=list)
    read: list[Address] = field(default_factory=list)
    """Found good by reading, for the ledger."""

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
    findings, proof = await _check(datastore, found, run or VerifyRun(), progress, auth_id)
    affected = await context.pool.disk(find_affected, context, frozenset(findings.bad)) if findings.bad else []
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
        affected=[str(each) for each in affected],
    )
    await _note(datastore, found, report)
    return report


async def _check(
    datastore: Datastore, name: SnapshotName, run: VerifyRun, progress: Progress | None, auth_id: str
) -> tuple[_Findings, list[str]]:
    """What was found, and what was proven."""
    context, findings = datastore.context, _Findings()
    context.folders.forget(name)
    try:
        request = ReaderOpen(snapshot=str(name), purpose="verify")
        reader = await datastore.readers.open(auth_id, request, everything=True)
    except FormatError as error:
        findings.fail(CORRUPT, error.message)
        return findings, []
    except NotFoundError as error:
        if not await context.pool.disk(context.folders.exists, name):
            raise
        findings.fail(MISSING, error.message)  # a file that the manifest lists
        return findings, []
    check = _SnapshotCheck(context, reader.stored, run, progress)
    try:
        with reader.held():
            await check.check()
    finally:
        with trio.CancelScope(shield=True):  # one folder to remove
            await datastore.readers.close_reader(reader.reader_id, auth_id, ReaderClose())
    return check.findings, check.proof


class _SnapshotCheck:
    """One snapshot under a lease: signature, blobs, indexes, chunks. `proof` loses levels that were not reached."""

    def __init__(
        self, context: StoreContext, stored: StoredSnapshot, run: VerifyRun, progress: Progress | None
    ) -> None:
        self.findings = _Findings()
        self.proof = [PRESENCE, STORED_DIGEST, CONTENT_ID, SIGNATURE]
        self._context = context
        self._stored = stored
        self._run = run
        self._progress = progress

    async def check(self) -> None:
        """Raises what makes reading impossible; what is wrong with the data is in `findings`."""
        pool, findings = self._context.pool, self.findings
        await pool.cpu(self._check_signature)
        await pool.disk(self._check_blobs)
        await self._check_chunks(await pool.disk(self._check_indexes))
        await pool.disk(self._record)
        if findings.missing or findings.corrupt:
            self.proof = [level for level in self.proof if level == SIGNATURE]
        elif findings.unproven:
            self.proof.remove(CONTENT_ID)

    def _record(self) -> None:
        """Tell the ledger which chunks were read and good. A store that takes no writes is verified all the same."""
        when = self._context.clock.now_ns() // 1_000_000_000
        with contextlib.suppress(DatastoreReadOnly, NoSpace):
            for start in range(0, len(self.findings.read), limits.PRESENCE_BATCH_IDS):
                batch = self.findings.read[start : start + limits.PRESENCE_BATCH_IDS]
                self._context.store.record_verified(batch, when)

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
        if stored.manifest.datastore != self._context.uuid:
            findings.fail(CORRUPT, f"{stored.name}: its manifest is of datastore {stored.manifest.datastore}")

    def _check_blobs(self) -> None:
        stored, findings = self._stored, self.findings
        files = self._context.folders.files
        for blob in stored.manifest.blobs:
            try:
                content = files.read(stored.folder, blob.name, limit=limits.SNAPSHOT_BLOB_BYTES_MAX)
            except NotFoundError:
                findings.fail(MISSING, f"{stored.name}: blob {blob.name} is missing")
                continue
            except FormatError as error:
                findings.fail(CORRUPT, f"{stored.name}: {error.message}")
                continue
            if len(content) != blob.bytes or digest(content).hex() != blob.digest:
                findings.fail(CORRUPT, f"{stored.name}: blob {blob.name} does not match the manifest")

    def _check_indexes(self) -> dict[Address, str]:
        """Every chunk the good indexes name, with the archive that names it first."""
        stored, findings = self._stored, self.findings
        addresses: dict[Address, str] = {}
        for archive in stored.manifest.archives:
            try:
                index = snapshot_index(self._context.folders.files, stored.folder, archive.name)
                check_records(index.header, index.records)
                if index.digest != archive.index_digest:
                    raise FormatError("it does not match the manifest")
            except NotFoundError:
                findings.fail(MISSING, f"{stored.name}: the index of {archive.name} is missing")
                continue
            except FormatError as error:
                findings.fail(CORRUPT, f"{stored.name}: index of {archive.name}: {error.message}")
                continue
            for chunk in distinct(index.stored_ids):
                addresses.setdefault(Address(index.header.domain, chunk.tobytes()), archive.name)
        return addresses

    async def _check_chunks(self, addresses: dict[Address, str]) -> None:
        """Read all chunks, a bounded number at once. The first failure to read ends it."""
        self.findings.total = len(addresses)
        waiting = iter(addresses.items())
        failed: list[Exception] = []

        async def work() -> None:
            try:
                for address, archive in waiting:  # shared: taking the next has no await, so each goes to one worker
                    await self._check_chunk(address, archive)
            except Exception as error:  # noqa: BLE001 - handed to the caller below, alone and unwrapped
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the reads of this verification
            for _ in range(limits.VERIFY_READS_MAX):
                nursery.start_soon(work)
        if failed:
            raise failed[0]

    async def _check_chunk(self, address: Address, archive: str) -> None:
        findings, run = self.findings, self._run
        place = f"{self._stored.name}, archive {archive}"
        findings.unproven += address.domain != PLAIN_DOMAIN
        if address in run.good:
            findings.reused += 1
        elif address in run.bad:
            findings.fail(run.bad[address], f"{run.bad[address]} chunk {address.id.hex()} ({place})", address)
        else:
            try:
                stored_bytes = await self._context.pool.disk(_read_chunk, self._context, address)
                findings.bytes += stored_bytes  # not in one line with the await: the sum belongs to several workers
                run.good.add(address)
                findings.read.append(address)
            except (ChunkNotFound, CorruptChunk) as error:
                run.bad[address] = MISSING if isinstance(error, ChunkNotFound) else CORRUPT
                findings.fail(run.bad[address], f"{error.message} ({place})", address)
        findings.done += 1
        if self._progress is not None:
            bad = findings.corrupt + findings.missing
            await self._progress(VerifyProgress(findings.done, findings.total, findings.bytes, findings.reused, bad))


def _read_chunk(context: StoreContext, address: Address) -> int:
    """Stored bytes of a good chunk. A plain one's content is proven by its id; the store marks what it finds bad."""
    blob = context.store.get(address)
    if address.domain == PLAIN_DOMAIN:
        try:
            context.decoders.plain.decode(blob, want=address)
        except (CorruptChunk, FormatError) as error:
            # Right digest, wrong content: whoever wrote it lied or failed. It must never serve.
            context.store.mark_bad(address)
            raise CorruptChunk(address.id.hex(), error.message) from error
    return len(blob)


def find_affected(context: StoreContext, bad: Collection[Address]) -> list[SnapshotName]:
    """Every snapshot whose indexes name one of these chunks; unreadable ones are left out. Blocks."""
    by_domain: dict[bytes, bytes] = {}
    for address in bad:
        by_domain[address.domain] = by_domain.get(address.domain, b"") + address.id
    lookups = {domain: IdLookup(id_array(ids)) for domain, ids in by_domain.items() if len(ids) >= ID_BYTES}
    found = []
    for name in context.folders.every():
        try:
            for part in of_snapshot(context, name):
                lookup = lookups.get(part.domain or b"")
                if lookup is not None and lookup.contains(part.ids).any():
                    found.append(name)
                    break
        except (FormatError, NotFoundError):
            continue
    return found


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
