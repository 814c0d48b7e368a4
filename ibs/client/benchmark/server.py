"""The way to a datastore and back: a real write session that is given up at the end, so that no snapshot is made.

Imported by `client.benchmark.run`. What is sent cannot be compressed and is new in each run, so that the server stores
it as it does a first backup; at the end the session is discarded, and the server removes it all at its next clean-up.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from ibs.client.benchmark.figures import Figure
from ibs.client.http import ApiClient
from ibs.client.transport import HttpBackupTransport
from ibs.core import limits
from ibs.core.blob import BlobDecoder, BlobEncoder
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs.errors import IbsError
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.wire.session import LogLine, SessionOpen, StageReport

ARCHIVE = "benchmark.tree"
_CHUNK_BYTES = limits.TREE_CHUNK_BYTES_AVG
_BODY_CHUNKS = 2
_PINGS = 5
_REASON = "cancelled"
"""What the server shows for a session that a person ended; anything else would be a failed task."""

Pong = dict[str, object]
Step = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: `size` bytes each way, for at most about `seconds_max`, as `client` in `group`."""

    store: str
    namespace: str
    group: str
    client: str
    size: int
    seconds_max: float


async def measure_server(
    api: ApiClient, wish: Wish, *, pool: Pool, clock: Clock
) -> tuple[list[Figure], float, list[str]]:
    """Upload, download and the round trip in milliseconds; and notes.

    Raises what opening a session and sending to it raise. *Cancellation*: at any time; the session is discarded.
    """
    round_trip = await _round_trip_ms(api, clock)
    async with HttpBackupTransport(api) as transport:
        request = SessionOpen(
            store=wish.store,
            group=wish.group,
            namespace=wish.namespace,
            archives=[ARCHIVE],
            use_base=False,
            client_version=wish.client,
        )
        await transport.open(request)
        try:
            told = LogLine(level="info", text="a benchmark: no snapshot is made, what it sends is removed")
            await transport.report(StageReport(lines=[told]))
            traffic = _Traffic(transport, wish, pool, clock)
            figures = [await traffic.upload(), await traffic.download()]
        finally:
            notes = await _discard(transport)
    return figures, round_trip, notes


async def _round_trip_ms(api: ApiClient, clock: Clock) -> float:
    """Of a small request on an open connection, the median of a few."""
    await api.get("/ping", Pong)
    spent = []
    for _ in range(_PINGS):
        began = clock.monotonic()
        await api.get("/ping", Pong)
        spent.append(clock.monotonic() - began)
    return round(statistics.median(spent) * 1000, 2)


async def _discard(transport: HttpBackupTransport) -> list[str]:
    """Give the session up. What goes wrong is said: the server then removes everything after a day."""
    with trio.move_on_after(limits.BACKUP_ABORT_SECONDS, shield=True):
        try:
            await transport.discard(_REASON)
        except IbsError as error:
            return [f"the session could not be discarded ({error}); the server removes it by itself after a day"]
        return ["no snapshot was made; the server removes what was sent at its next clean-up, within a minute"]
    return ["the server did not answer when the session was discarded; it removes it by itself after a day"]


class _Traffic:
    """Sends blobs through one session, as many bodies at once as a backup does, and fetches them again."""

    def __init__(self, transport: HttpBackupTransport, wish: Wish, pool: Pool, clock: Clock) -> None:
        self._transport = transport
        self._wish = wish
        self._pool = pool
        self._clock = clock
        self._noise = os.urandom(_CHUNK_BYTES)
        self._made = 0
        self._sent: list[bytes] = []
        self._bytes = 0

    async def upload(self) -> Figure:
        """Real bodies on the data plane, each acknowledged when received and pinned."""
        seconds = await self._together([self._sender() for _ in range(limits.BACKUP_SENDERS)])
        return Figure.of("upload", "write session", self._bytes, seconds, note="made, sent, checked and stored")

    def _sender(self) -> Step:
        encoder = BlobEncoder(level=1)

        async def step() -> bool:
            if self._made * _CHUNK_BYTES >= self._wish.size:
                return False
            first, self._made = self._made, self._made + _BODY_CHUNKS
            body = await self._pool.cpu(lambda: [self._chunk(encoder, first + at) for at in range(_BODY_CHUNKS)])
            await self._transport.send([blob for _, blob in body])
            self._bytes += sum(len(blob) for _, blob in body)
            self._sent += [chunk_id for chunk_id, _ in body]
            return True

        return step

    def _chunk(self, encoder: BlobEncoder, number: int) -> tuple[bytes, bytes | bytearray]:
        """One chunk that no datastore has: noise that begins with a number. In a pool thread."""
        data = number.to_bytes(8, "little") + self._noise[8:]
        chunk_id = encoder.identify(data)
        return chunk_id, encoder.encode(data, chunk_id)

    async def download(self) -> Figure:
        """The same chunks back, one a request, each checked against its id."""
        waiting = list(self._sent)
        done = 0

        async def step() -> bool:
            nonlocal done
            if not waiting:
                return False
            chunk_id = waiting.pop()
            blob = await self._transport.base_chunk(chunk_id)
            await self._pool.cpu(lambda: BlobDecoder().decode(blob, want=Address(PLAIN_DOMAIN, chunk_id)))
            done += len(blob)
            return True

        seconds = await self._together([step] * limits.RESTORE_FETCHES)
        return Figure.of(
            "download", "write session", done, seconds, note="one chunk a request; a restore asks for several"
        )

    async def _together(self, steps: Sequence[Step]) -> float:
        """Repeat each step until it says False or the time is over; the seconds it all took."""
        began = self._clock.monotonic()

        async def go_on(step: Step) -> None:
            while self._clock.monotonic() - began < self._wish.seconds_max and await step():
                pass

        try:
            async with trio.open_nursery() as nursery:  # noqa: TID251 - several requests under way at once
                for step in steps:
                    nursery.start_soon(go_on, step)
        except BaseExceptionGroup as errors:
            told = _first_of_ours(errors)
            if told is None:
                raise
            raise told from errors
        return self._clock.monotonic() - began


def _first_of_ours(errors: BaseExceptionGroup) -> IbsError | None:
    """The first error of ours, when there are no others."""
    error: BaseException = errors
    if errors.split(IbsError)[1] is None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    return error if isinstance(error, IbsError) else None
