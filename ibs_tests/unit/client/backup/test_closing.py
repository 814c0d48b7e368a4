"""The end of an archive: figures as the manifest states them; a differing index is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import index
from ibs.core.ids import digest
from ibs.core.keys import DataKeys
from ibs.errors import FailedError
from ibs.wire.session import ArchiveClose, ArchiveClosed
from ibs_tests.support.backups import MemoryServer, back_up


async def test_the_manifest_states_what_the_index_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    keys = DataKeys.from_root(b"k" * 32)
    server = MemoryServer()
    await back_up(server, tmp_path, keys=keys)
    (archive,) = server.snapshots[0].manifest.archives
    content = server.snapshots[0].indexes["data.tree"]
    header = index.parse_header(content)
    assert (archive.kind, archive.entries, archive.plain_bytes) == ("tree", 2, 10)
    assert (archive.records, archive.index_bytes) == (header.records, len(content))
    assert archive.index_digest == digest(content).hex()
    assert archive.key_fingerprint == keys.fingerprint.hex(":")
    assert header.domain == keys.fingerprint


async def test_a_differing_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer()
    transport = server.transport()
    honest = transport.close_archive

    async def shorter(archive: str, close: ArchiveClose) -> ArchiveClosed:
        closed = await honest(archive, close)
        return ArchiveClosed(archive=archive, index_bytes=1, index_digest=closed.index_digest)

    monkeypatch.setattr(transport, "close_archive", shorter)
    with pytest.raises(FailedError, match="not the one that was sent") as caught:
        await back_up(server, tmp_path, transport=transport)
    assert caught.value.details["ours"] == caught.value.details["server"]
