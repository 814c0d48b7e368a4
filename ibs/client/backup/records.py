"""The growing index of one archive, as the client knows it: appended to the server's, digested here.

Importable by the backup pipeline only. Records go out in the order they are put, and none before the chunk it names
was acknowledged. The digest of an index file covers its header first, which holds a digest of all records; so they
are kept until the end, in memory while they are few and then in an unlinked temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import trio
from blake3 import blake3

from ibs.client.backup.known import Ledger
from ibs.core import index, limits
from ibs.core.index import IndexHeader
from ibs.errors import FailedError
from ibs.ports.pool import Pool
from ibs.ports.transport import BackupTransport

FLUSH_BYTES = 1 * limits.MIB
_READ_BYTES = 4 * limits.MIB


class RecordWriter:
    """Index records of `archive`. One task at a time."""

    def __init__(self, transport: BackupTransport, pool: Pool, ledger: Ledger, archive: str, kind: str) -> None:
        self._transport = transport
        self._pool = pool
        self._ledger = ledger
        self._archive = archive
        self._kind = kind
        self._waiting = bytearray()
        self._ids: list[bytes] = []
        self._sent = 0
        self._digest = blake3()
        self._kept = tempfile.SpooledTemporaryFile(max_size=limits.RECORDS_MEMORY_BYTES)  # noqa: SIM115 - `close`

    @property
    def count(self) -> int:
        """Records put so far."""
        return self._sent + len(self._waiting) // index.RECORD_BYTES[self._kind]

    async def put(self, records: bytes, ids: Sequence[bytes]) -> None:
        """Append `records`, which name the stored chunks `ids`. May wait for the server."""
        self._waiting += records
        self._ids += ids
        if len(self._waiting) >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hand over what waits, in bodies of bounded size."""
        step = limits.RECORDS_BODY_BYTES_MAX
        step -= step % index.RECORD_BYTES[self._kind]
        await self._ledger.acknowledged(self._ids)
        self._ids = []
        while self._waiting:
            body = bytes(self._waiting[:step])
            await self._transport.append(self._archive, self._sent, body)
            del self._waiting[:step]
            self._sent += len(body) // index.RECORD_BYTES[self._kind]
            self._digest.update(body)
            await self._pool.disk(self._keep, body)

    def _keep(self, body: bytes) -> None:
        try:
            self._kept.write(body)
        except OSError as error:
            raise FailedError(
                f"index records cannot be kept in a temporary file: {error.strerror}", hint="free space or set TMPDIR"
            ) from error

    async def digest(self, *, plain_bytes: int, chunk_bytes: int, depth: int, domain: bytes, root: bytes) -> str:
        """BLAKE3 (hex) of the finished index file, after `flush`. Raises FormatError."""
        header = IndexHeader(
            kind=self._kind,
            record_bytes=index.RECORD_BYTES[self._kind],
            records=self._sent,
            plain_bytes=plain_bytes,
            chunk_bytes=chunk_bytes,
            depth=depth,
            domain=domain,
            root=root,
            records_digest=self._digest.digest(),
        )
        return await self._pool.disk(self._whole_digest, index.encode_header(header))

    def _whole_digest(self, header: bytes) -> str:
        whole = blake3(header)
        self._kept.seek(0)
        while piece := self._kept.read(_READ_BYTES):
            whole.update(piece)
        return whole.hexdigest()

    def close(self) -> None:
        """Drop the temporary file; may be called twice."""
        self._kept.close()


async def write_records(writer: RecordWriter, records: trio.MemoryReceiveChannel[tuple[bytes, list[bytes]]]) -> None:
    """Put whatever comes, then flush. The task between whoever makes records and the server."""
    async with records:
        async for body, ids in records:
            await writer.put(body, ids)
    await writer.flush()
