"""The computing side: hash, look up, compress, encrypt. Runs in the pool's processor threads.

Importable by the backup pipeline only. One `Encoding` belongs to one task and is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from ibs.client.backup.figures import Figures
from ibs.client.backup.items import Job
from ibs.client.backup.known import Ledger
from ibs.core.blob import BlobEncoder
from ibs.core.ids import Buffer
from ibs.core.index import ZERO_ID
from ibs.core.keys import DataKeys
from ibs.ports.clock import Clock

Blob = tuple[bytes, bytes | bytearray]
"""A chunk's id and its encoded blob."""


class TimedEncoder(BlobEncoder):
    """A `BlobEncoder` that knows how much of its time went into encryption."""

    def __init__(self, *, level: int, keys: DataKeys | None, monotonic: Callable[[], float]) -> None:
        super().__init__(level=level, keys=keys)
        self._monotonic = monotonic
        self.encrypt_seconds = 0.0

    def _encrypt(self, flags: int, size: int, body: Buffer, chunk_id: bytes, keys: DataKeys) -> bytearray:
        began = self._monotonic()
        try:
            return super()._encrypt(flags, size, body, chunk_id, keys)
        finally:
            self.encrypt_seconds += self._monotonic() - began


class Encoding:
    """Turns jobs into blobs that have to be sent."""

    def __init__(self, *, level: int, keys: DataKeys | None, ledger: Ledger, figures: Figures, clock: Clock) -> None:
        self._encoder = TimedEncoder(level=level, keys=keys, monotonic=clock.monotonic)
        self._ledger = ledger
        self._figures = figures
        self._monotonic = clock.monotonic

    def run(self, job: Job) -> list[Blob]:
        """Give every chunk of `job` its id; return the blobs of those that the server does not have.

        A chunk that comes with an id was hashed and claimed before (metadata).
        """
        monotonic = self._monotonic
        blobs: list[Blob] = []
        hashed = packed = 0
        hash_seconds = pack_seconds = 0.0
        encrypted_before = self._encoder.encrypt_seconds
        for ref in job.refs:
            view = ref.view
            assert view is not None  # noqa: S101 - a job is run once
            claimed = bool(ref.id)
            if not claimed:
                began = monotonic()
                chunk_id = self._encoder.identify(view)
                hash_seconds += monotonic() - began
                hashed += ref.length
                if job.zero.get(ref.length) == chunk_id:
                    ref.id = ZERO_ID
                else:
                    claimed = self._ledger.claim(chunk_id)
                    ref.id = chunk_id
            if claimed:
                began = monotonic()
                blobs.append((ref.id, self._encoder.encode(view, ref.id)))
                pack_seconds += monotonic() - began
                packed += ref.length
            ref.view = None
            view.release()
        encrypt_seconds = self._encoder.encrypt_seconds - encrypted_before
        self._figures.add("hash", busy=hash_seconds, size=hashed, items=len(job.refs))
        self._figures.add("compress", busy=pack_seconds - encrypt_seconds, size=packed, items=len(blobs))
        if encrypt_seconds:
            self._figures.add("encrypt", busy=encrypt_seconds, size=packed, items=len(blobs))
        return blobs
