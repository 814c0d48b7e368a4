"""Has chunks opened ahead of those who need them, within a bounded window of memory.

Imported by the modules of `client.restore`. Bytes in hand are bounded: what is leased (asked for or being written) by
RESTORE_READAHEAD_BYTES, what was given back by RESTORE_CACHE_BYTES, metadata by RESTORE_METADATA_CACHE_BYTES. Several
requests are under way at once. A chunk that cannot be had is an error in its place, so that only what needs it fails;
an error of the connection or the key ends everything.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence

import trio

from ibs.client.restore.opener import FetchFigures, Opened, Opener
from ibs.core import limits
from ibs.errors import IbsError
from ibs.ports.clock import Clock


class _Slot:
    """One chunk asked for. `data` is set before `done`; that of metadata is bytes, or an error."""

    __slots__ = ("data", "done", "id", "length", "metadata", "users")

    def __init__(self, chunk_id: bytes, length: int, *, metadata: bool = False) -> None:
        self.id = chunk_id
        self.length = length
        self.metadata = metadata
        self.users = 0
        self.data: Opened | None = None
        self.done = trio.Event()


class Lease:
    """Some chunks held in memory until `release`."""

    def __init__(self, fetcher: ChunkFetcher, slots: Sequence[_Slot]) -> None:
        self._fetcher = fetcher
        self._slots = slots
        self._open = True

    async def ready(self) -> dict[bytes, Opened]:
        """The chunks by id once all are there, each its plaintext or the reason why it could not be had."""
        for slot in self._slots:
            await slot.done.wait()
        found: dict[bytes, Opened] = {}
        for slot in self._slots:
            assert slot.data is not None  # noqa: S101 - set before `done`
            found[slot.id] = slot.data
        return found

    def release(self) -> None:
        """Give the chunks back; may be called twice."""
        if self._open:
            self._open = False
            self._fetcher._release(self._slots)  # noqa: SLF001 - the two are one


class ChunkFetcher:
    """Chunks of one snapshot. All methods in the trio thread but `peek`; `run` must be running."""

    def __init__(
        self,
        opener: Opener,
        clock: Clock,
        *,
        window_bytes: int = limits.RESTORE_READAHEAD_BYTES,
        cache_bytes: int = limits.RESTORE_CACHE_BYTES,
    ) -> None:
        self._opener = opener
        self._clock = clock
        self._window_bytes = window_bytes
        self._cache_bytes_max = cache_bytes
        self._slots: dict[bytes, _Slot] = {}
        self._held_bytes = 0
        self._idle: OrderedDict[bytes, _Slot] = OrderedDict()
        self._idle_bytes = 0
        self._metadata: OrderedDict[bytes, _Slot] = OrderedDict()
        self._metadata_bytes = 0
        self._urgent: deque[_Slot] = deque()
        self._queue: deque[_Slot] = deque()
        self._room = trio.lowlevel.ParkingLot()
        self._work = trio.lowlevel.ParkingLot()
        self._requests = 0
        self._small: _Slot | None = None

    @property
    def figures(self) -> FetchFigures:
        """What opening has taken so far."""
        return self._opener.figures

    async def run(self) -> None:
        """Serve requests until cancelled. Raises what ends a restore: connection lost, wrong key."""
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the parallel requests
            for _ in range(limits.RESTORE_FETCHES):
                nursery.start_soon(self._serve)
            nursery.start_soon(self._keep_alive)
            nursery.start_soon(self._opener.serve)

    # --- data chunks ---

    async def lease(self, chunks: Mapping[bytes, int]) -> Lease:
        """Ask for chunks (plain lengths by id); returns when the window has room for them, not when they are there.

        One lease larger than the window is let through alone. *Cancellation*: then nothing is held.
        """
        await trio.lowlevel.checkpoint()
        while self._held_bytes and self._held_bytes + self._added(chunks) > self._window_bytes:
            await self._room.park()
        # No await from here on: the room just found must not be given away twice.
        slots = []
        for chunk_id, length in chunks.items():
            slot = self._slots.get(chunk_id)
            if slot is None:
                slot = self._slots[chunk_id] = _Slot(chunk_id, length)
                self._queue.append(slot)
            if slot.users == 0:
                self._held_bytes += slot.length
                if self._idle.pop(chunk_id, None) is not None:
                    self._idle_bytes -= slot.length
            slot.users += 1
            slots.append(slot)
        self._work.unpark_all()
        return Lease(self, slots)

    def _added(self, chunks: Mapping[bytes, int]) -> int:
        slots = self._slots
        return sum(
            length for chunk_id, length in chunks.items() if (slot := slots.get(chunk_id)) is None or not slot.users
        )

    def _release(self, slots: Sequence[_Slot]) -> None:
        for slot in slots:
            slot.users -= 1
            if slot.users:
                continue
            self._held_bytes -= slot.length
            if slot.data is None or isinstance(slot.data, IbsError):
                del self._slots[slot.id]  # failed, or given up before it came
            else:
                self._idle[slot.id] = slot
                self._idle_bytes += slot.length
        while self._idle_bytes > self._cache_bytes_max:
            chunk_id, slot = self._idle.popitem(last=False)
            self._idle_bytes -= slot.length
            del self._slots[chunk_id]
        self._room.unpark_all()

    # --- metadata chunks ---

    def ahead(self, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Ask for metadata chunks (id, plain length) that will be wanted soon."""
        for chunk_id, length in chunks:
            slot = self._metadata.get(chunk_id)
            if slot is None:
                slot = self._metadata[chunk_id] = _Slot(chunk_id, length, metadata=True)
                self._metadata_bytes += length
                self._urgent.append(slot)
            else:
                self._metadata.move_to_end(chunk_id)
        while self._metadata_bytes > limits.RESTORE_METADATA_CACHE_BYTES and len(self._metadata) > 1:
            _, slot = self._metadata.popitem(last=False)
            self._metadata_bytes -= slot.length
        self._work.unpark_all()

    async def metadata(self, chunk_id: bytes, length: int) -> bytes:
        """The plaintext of a metadata chunk. Raises what befell it."""
        self.ahead([(chunk_id, length)])
        slot = self._metadata[chunk_id]
        await slot.done.wait()
        if isinstance(slot.data, IbsError):
            raise slot.data
        assert isinstance(slot.data, bytes)  # noqa: S101 - set before `done`
        return slot.data

    def peek(self, chunk_id: bytes) -> bytes | None:
        """The plaintext of a metadata chunk if it is here. From any thread."""
        slot = self._metadata.get(chunk_id)
        return slot.data if slot is not None and isinstance(slot.data, bytes) else None

    # --- requests ---

    async def _serve(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                began = self._clock.monotonic()
                await self._work.park()
                self.figures.wait_seconds += self._clock.monotonic() - began
                continue
            await self._answer(batch)

    def _take(self) -> list[_Slot]:
        """The next request: metadata first, bounded in bytes and number."""
        batch: list[_Slot] = []
        size = 0
        for queue in (self._urgent, self._queue):
            while queue and len(batch) < limits.FETCH_IDS_MAX:
                slot = queue[0]
                if queue is self._queue and slot.users == 0:
                    queue.popleft()  # given up meanwhile
                    continue
                if batch and size + slot.length > limits.RESTORE_FETCH_BYTES:
                    return batch
                batch.append(queue.popleft())
                size += slot.length
        return batch

    async def _keep_alive(self) -> None:
        """A reader that asks for nothing loses its lease; one whose target is slow must not."""
        while True:
            requests = self._requests
            await self._clock.sleep(limits.RESTORE_KEEP_ALIVE_SECONDS)
            if self._requests == requests and self._small is not None:
                await self._opener.open([(self._small.id, self._small.length)])

    async def _answer(self, batch: list[_Slot]) -> None:
        self._requests += 1
        opened = await self._opener.open([(slot.id, slot.length) for slot in batch])
        for slot, data in zip(batch, opened, strict=True):
            # Metadata is small and lives long: it must not hold on to a place where chunks pass through.
            slot.data = bytes(data) if slot.metadata and not isinstance(data, IbsError) else data
            slot.done.set()
            if self._small is None or slot.length < self._small.length:
                self._small = _Slot(slot.id, slot.length)  # without its data
