"""From chunk ids to plaintext: asked for, received, decoded, proven. One way in this process; another is `helper`.

Imported by the modules of `client.restore`. A chunk that cannot be had is an error in its place, so that only what
needs it fails; an error of the connection or the key is raised and ends everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ibs.core import limits
from ibs.core.blob import BlobDecoder
from ibs.core.ids import Address
from ibs.core.keys import DataKeys
from ibs.errors import ChunkNotFound, CorruptChunk, FormatError, IbsError, SessionLost
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.ports.transport import Buffer
from ibs.runtime.retry import Backoff, may_pass, retry

_BACKOFF = Backoff(attempts=limits.RESTORE_RETRIES)

Wanted = tuple[bytes, int]
"""A chunk by its id, and its plain length in bytes as the index says it."""
Opened = Buffer | IbsError
"""A plaintext, or why it could not be had."""


@dataclass(slots=True)
class FetchFigures:
    """Seconds are summed over parallel requests; `wait_seconds` is time for which nobody asked for anything."""

    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    chunks: int = 0
    stored_bytes: int = 0
    plain_bytes: int = 0


class Source(Protocol):
    """As much of a RestoreTransport as opening needs."""

    async def fetch(self, ids: Sequence[bytes]) -> Sequence[Buffer]:
        """See RestoreTransport."""
        ...


class Opener(Protocol):
    """Opens chunks of one domain from one snapshot; several calls may be under way."""

    figures: FetchFigures

    async def serve(self) -> None:
        """What has to run beside the calls; returns at once when nothing has to."""
        ...

    async def open(self, wanted: Sequence[Wanted]) -> list[Opened]:
        """The chunks in the order asked, at most FETCH_IDS_MAX. Raises what ends a restore."""
        ...


class LocalOpener:
    """Fetches through the transport and decodes in the processor lane."""

    def __init__(
        self,
        transport: Source,
        pool: Pool,
        clock: Clock,
        *,
        domain: bytes,
        keys: DataKeys | None,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._clock = clock
        self._domain = domain
        self._keys = keys
        self._entropy = entropy
        self._threads = threading.local()
        self.figures = FetchFigures()

    async def serve(self) -> None:
        """Nothing has to."""

    async def open(self, wanted: Sequence[Wanted]) -> list[Opened]:
        """See the port."""
        return await self.open_into(wanted, None)

    async def open_into(self, wanted: Sequence[Wanted], places: Sequence[memoryview] | None) -> list[Opened]:
        """As `open`; with `places`, one as long as each chunk, the plaintexts are put there."""
        blobs = await self._fetch([chunk_id for chunk_id, _ in wanted])
        opened = await self._decode(wanted, blobs, places)
        for at, one in enumerate(wanted):
            if isinstance(opened[at], IbsError) and not isinstance(blobs[at], IbsError):
                # The bytes came and were not right: once more, before anything is called corrupt.
                again = await self._fetch([one[0]])
                opened[at] = (await self._decode([one], again, places and places[at : at + 1]))[0]
        return opened

    async def _fetch(self, ids: Sequence[bytes]) -> list[Opened]:
        """Blobs, or for each one that is missing or corrupt the error. Raises everything else."""
        began = self._clock.monotonic()
        try:
            blobs = await retry(
                lambda: self._transport.fetch(ids),
                clock=self._clock,
                entropy=self._entropy,
                backoff=_BACKOFF,
                when=lambda error: may_pass(error) and not isinstance(error, SessionLost),
            )
        except (ChunkNotFound, CorruptChunk) as error:
            if len(ids) == 1:
                return [error]
            return [(await self._fetch([chunk_id]))[0] for chunk_id in ids]
        finally:
            self.figures.fetch_seconds += self._clock.monotonic() - began
        if len(blobs) != len(ids):
            raise FormatError(f"the server answered {len(blobs)} chunks where {len(ids)} were asked for")
        self.figures.stored_bytes += sum(map(len, blobs))
        return list(blobs)

    async def _decode(
        self, wanted: Sequence[Wanted], blobs: Sequence[Opened], places: Sequence[memoryview] | None
    ) -> list[Opened]:
        began = self._clock.monotonic()
        opened = await self._pool.cpu(self._decode_all, wanted, blobs, places)
        self.figures.decode_seconds += self._clock.monotonic() - began
        self.figures.chunks += len(wanted)
        self.figures.plain_bytes += sum(len(each) for each in opened if not isinstance(each, IbsError))
        return opened

    def _decode_all(
        self, wanted: Sequence[Wanted], blobs: Sequence[Opened], places: Sequence[memoryview] | None
    ) -> list[Opened]:
        """In a pool thread. Raises FingerprintMismatch: with the wrong key nothing else will do better."""
        decoder: BlobDecoder | None = getattr(self._threads, "decoder", None)
        if decoder is None:
            decoder = self._threads.decoder = BlobDecoder(keys=self._keys)
        opened: list[Opened] = []
        for at, ((chunk_id, length), blob) in enumerate(zip(wanted, blobs, strict=True)):
            if isinstance(blob, IbsError):
                opened.append(blob)
                continue
            try:
                data = decoder.decode(blob, want=Address(self._domain, chunk_id))
                if len(data) != length:
                    raise CorruptChunk(chunk_id.hex(), f"it has {len(data)} bytes where the index says {length}")
            except (CorruptChunk, FormatError) as error:
                opened.append(_corrupt(chunk_id, error))
                continue
            if places is None:
                opened.append(data)
            else:
                places[at][:] = data
                opened.append(places[at])
        return opened


def _corrupt(chunk_id: bytes, error: IbsError) -> CorruptChunk:
    """A blob that breaks the format is corrupt too, and the message must name the chunk."""
    return error if isinstance(error, CorruptChunk) else CorruptChunk(chunk_id.hex(), error.message)
