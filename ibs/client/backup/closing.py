"""The end of an archive: its index closed on the server, and the two digests compared.

Importable by the archive jobs.
"""

from __future__ import annotations

from ibs.client.backup.pipeline import Engine
from ibs.client.backup.records import RecordWriter
from ibs.core import index, limits
from ibs.core.ids import hex_fingerprint
from ibs.core.manifest import ManifestArchive
from ibs.core.names import archive_kind
from ibs.errors import FailedError
from ibs.wire.session import ArchiveClose


async def close_archive(
    engine: Engine,
    archive: str,
    writer: RecordWriter,
    *,
    plain_bytes: int,
    root: bytes = index.ZERO_ID,
    depth: int = 0,
    entries: int = 0,
) -> ManifestArchive:
    """Close `archive` after its last record. Raises FailedError when the server made another index of the records."""
    kind = archive_kind(archive)
    chunk_bytes = limits.IMAGE_CHUNK_BYTES if kind == index.IMAGE else 0
    digest = await writer.digest(
        plain_bytes=plain_bytes, chunk_bytes=chunk_bytes, depth=depth, domain=engine.domain, root=root
    )
    closed = await engine.transport.close_archive(
        archive,
        ArchiveClose(
            plain_bytes=plain_bytes,
            records=writer.count,
            root=root.hex() if kind == index.TREE else "",
            depth=depth,
            chunk_bytes=chunk_bytes,
        ),
    )
    size = index.HEADER_BYTES + writer.count * index.RECORD_BYTES[kind]
    if (closed.index_digest, closed.index_bytes) != (digest, size):
        raise FailedError(
            f"archive {archive}: the server's index is not the one that was sent",
            hint="start the backup again; if it repeats, check the server's disk and memory",
            ours=digest,
            server=closed.index_digest,
        )
    return ManifestArchive(
        name=archive,
        kind=kind,  # type: ignore[arg-type]
        plain_bytes=plain_bytes,
        records=writer.count,
        index_bytes=size,
        index_digest=digest,
        entries=entries,
        key_fingerprint=hex_fingerprint(engine.keys.fingerprint) if engine.keys is not None else "",
    )
