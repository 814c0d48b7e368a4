"""What a backup said on its host, kept beside its archives and encrypted where they are (PROTOCOLS 18).

Used by the commands. The server's log of an encrypted backup names entries by number; here are their names.
"""

from __future__ import annotations

import trio

from ibs.client.restore.snapshot import OpenSnapshot, open_snapshot
from ibs.core import limits
from ibs.core.blob import BlobDecoder, parse_header
from ibs.core.ids import Address, digest
from ibs.core.keys import DataKeys
from ibs.core.manifest import CLIENT_LOG
from ibs.errors import FormatError, IbsError
from ibs.ports.pool import Pool
from ibs.ports.transport import RestoreTransport
from ibs.wire.session import LogLine


async def read_log(
    transport: RestoreTransport, *, store: str, snapshot: str, pool: Pool, keys: DataKeys | None = None
) -> list[LogLine]:
    """Its lines in order; none when the backup had nothing to say.

    Raises what `open_snapshot` raises, FormatError, CorruptChunk.
    """
    opened = await open_snapshot(transport, store, snapshot, keys=keys)
    status, message = "FAILED", "cancelled"
    try:
        lines = await _lines(opened, pool)
        status, message = "OK", ""
    except IbsError as error:
        message = error.code
        raise
    finally:
        with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
            await transport.close(status, 0, message)
    return lines


async def _lines(opened: OpenSnapshot, pool: Pool) -> list[LogLine]:
    stated = next((blob for blob in opened.manifest.blobs if blob.name == CLIENT_LOG), None)
    if stated is None:
        return []
    raw = await opened.transport.file(CLIENT_LOG)
    if len(raw) != stated.bytes or (await pool.cpu(digest, raw)).hex() != stated.digest:
        raise FormatError(
            f"{CLIENT_LOG} of {opened.manifest.snapshot} is not the one its manifest states",
            hint="run: ironcore-backup verify start STORE --notification-mode always",
        )
    if opened.encrypted and opened.keys is not None:
        want = Address(opened.keys.fingerprint, parse_header(raw).id)
        raw = await pool.cpu(lambda: BlobDecoder(keys=opened.keys).decode(raw, want=want))
    return [_line(text) for text in raw.decode("utf-8", "replace").splitlines() if text]


def _line(text: str) -> LogLine:
    """A line begins with its severity."""
    level, colon, rest = text.partition(": ")
    return LogLine(level=level, text=rest) if colon else LogLine(level="info", text=text)
