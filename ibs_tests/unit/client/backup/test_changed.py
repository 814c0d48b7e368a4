"""Maps of changes beside a base: used when all agrees, told with the reason when not, caught when they lie."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.changed import unchanged_chunks, why_not
from ibs.client.backup.plan import BackupOutcome, Changes
from ibs.core import index, limits
from ibs.core.ids import digest
from ibs.core.index import IndexHeader
from ibs.core.keys import DataKeys
from ibs.core.names import SnapshotName
from ibs.errors import FailedError, UsageError
from ibs.sources.changes import MapForm, parse_map
from ibs.sources.image import ImageSource
from ibs.wire.session import BaseArchive, SessionOpened
from ibs_tests.support.backups import MemoryServer, MemoryTransport, back_up

CHUNK = limits.IMAGE_CHUNK_BYTES
SINCE = "host/test/2026-01-01T00:00:01Z"


def base_of(chunks: int, *bad: int) -> BaseIndex:
    ids = b"".join(digest(bytes([number])) for number in range(chunks))
    header = IndexHeader(index.IMAGE, 32, chunks, chunks * CHUNK, CHUNK, 0, bytes(32), bytes(32), digest(ids))
    usable = np.ones(chunks, np.bool_)
    usable[list(bad)] = False
    return BaseIndex(index.encode_header(header) + ids, np.packbits(usable, bitorder="little"), domain=bytes(32))


def opened(snapshot: str = SINCE, manifest: str = "ab" * 32) -> tuple[SessionOpened, BaseArchive]:
    base = BaseArchive(archive="disk.img", snapshot=snapshot, index_bytes=1, records=1)
    answer = SessionOpened(
        session_id="",
        upid="",
        datastore_uuid="",
        snapshot="host/test/2026-01-01T00:00:09Z",
        sequence=2,
        previous_manifest_digest=manifest,
        bases=[base],
    )
    return answer, base


def test_a_map_is_used_only_beside_its_own_base() -> None:
    answer, offered = opened()
    base = base_of(3)
    named = Changes((("disk.img", "m"),), SnapshotName.parse(SINCE))
    assert why_not(named, answer, offered, base, 3 * CHUNK) == ""
    assert "no previous snapshot" in why_not(named, answer, None, None, 3 * CHUNK)
    assert "no previous snapshot" in why_not(named, answer, offered, None, 3 * CHUNK)
    assert "bytes now" in why_not(named, answer, offered, base, 3 * CHUNK - 1)
    for other in ("host/test/2026-01-01T00:00:02Z", f"ns:a/{SINCE}", "vm/test/2026-01-01T00:00:01Z"):
        assert "counts from host/test/2026-01-01T00:00:01Z" in why_not(named, answer, opened(other)[1], base, 3 * CHUNK)
    by_digest = Changes((("disk.img", "m"),), digest="ab" * 32)
    assert why_not(by_digest, answer, offered, base, 3 * CHUNK) == ""
    assert "counts from the manifest abab" in why_not(by_digest, opened(manifest="")[0], offered, base, 3 * CHUNK)


def test_samples_are_a_share_and_belong_to_a_seed() -> None:
    size = 200 * CHUNK
    found = parse_map(json.dumps([{"start": 0, "length": 10 * CHUNK}]).encode(), "m", MapForm.EXTENTS)

    def sampled(seed: str, percent: float | None) -> set[int]:
        one = unchanged_chunks(found, base_of(200, 17), size, snapshot=SINCE, seed=seed, percent=percent)
        assert one.same.sum() == 189
        assert not one.same[17]
        assert not one.same[:10].any()
        assert not (one.sampled & ~one.same).any()
        assert (one.taken == (one.same & ~one.sampled)).all()
        return set(np.flatnonzero(one.sampled).tolist())

    assert len(sampled("a", None)) == limits.IMAGE_SAMPLE_CHUNKS
    assert sampled("a", None) == sampled("a", None) != sampled("b", None)
    assert len(sampled("a", 0)) == 0
    assert len(sampled("a", 10)) == 19
    assert len(sampled("a", 100)) == 189


class Disk:
    """An image with a snapshot of it on a server, and what is read of it from then on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, chunks: int = 30, tail: int = 77) -> None:
        self.path = folder / "disk"
        self.path.write_bytes(os.urandom(chunks * CHUNK + tail))
        self.map = folder / "map.json"
        self.server = MemoryServer()
        self.reads: list[int] = []
        real = ImageSource.read

        def read(image: ImageSource, view: memoryview, offset: int) -> None:
            self.reads.append(offset // CHUNK)
            real(image, view, offset)

        monkeypatch.setattr(ImageSource, "read", read)

    def write(self, *places: int) -> list[dict[str, int]]:
        """Change bytes; the map of that."""
        with self.path.open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(os.urandom(10))
        return [{"start": place, "length": 10} for place in places]

    async def back_up(
        self, extents: list[dict[str, Any]] | None = None, since: str = SINCE, percent: float | None = 0, **more: Any
    ) -> tuple[BackupOutcome, MemoryTransport]:
        self.reads.clear()
        changes = None
        if extents is not None:
            self.map.write_text(json.dumps(extents))
            changes = Changes.parse([f"disk.img={self.map}"], since, group="host/test", percent=percent)
        return await back_up(self.server, self.path, "disk.img", changes=changes, **more)

    def sound(self, keys: DataKeys | None = None) -> bool:
        whole = b"".join(chunk or bytes(CHUNK) for chunk in self.server.image("disk.img", keys))
        size = self.path.stat().st_size
        return whole[:size] == self.path.read_bytes() and not any(whole[size:])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"k" * 32)])
async def test_only_what_the_map_names_is_read(disk: Disk, keys: DataKeys | None) -> None:
    await disk.back_up(keys=keys)
    outcome, transport = await disk.back_up(disk.write(0, 3 * CHUNK - 5, 30 * CHUNK + 60), keys=keys)
    assert disk.reads == [0, 2, 3, 30]
    assert len(transport.sent) == 4
    assert disk.sound(keys)
    assert outcome.bytes_reused == 27 * CHUNK
    assert outcome.bytes_seen == 30 * CHUNK + 77
    assert disk.server.snapshots[-1].manifest.run == 1
    assert any("27 of 31 chunks are taken from host/test/2026-01-01T00:00:01Z" in one for one in outcome.remarks)
    again, transport = await disk.back_up([], since="host/test/2026-01-01T00:00:02Z", keys=keys)
    assert (disk.reads, transport.sent, again.bytes_read) == ([], [], 0)
    assert disk.server.snapshots[-1].indexes == disk.server.snapshots[-2].indexes


async def test_beside_another_base_everything_is_read_and_told(disk: Disk) -> None:
    await disk.back_up()
    lost = disk.write(5 * CHUNK)
    await disk.back_up()
    # The map counts from the second snapshot, says the operator, but from the first one by name: nothing may be lost.
    disk.write(7 * CHUNK)
    outcome, transport = await disk.back_up(lost, since=SINCE)
    assert len(disk.reads) == 31
    assert disk.sound()
    assert outcome.status == "OK"
    assert disk.server.snapshots[-1].manifest.run == 0
    assert any("not used" in line.text and "counts from" in line.text for line in transport.lines)
    assert any("not used" in one for one in outcome.remarks)


async def test_by_digest_of_the_manifest(disk: Disk) -> None:
    first, _ = await disk.back_up()
    await disk.back_up(disk.write(CHUNK), since=first.manifest_digest)
    assert disk.reads == [1]
    await disk.back_up(disk.write(CHUNK), since=first.manifest_digest)
    assert len(disk.reads) == 31
    assert disk.sound()


async def test_a_first_backup_with_a_map_reads_everything(disk: Disk) -> None:
    outcome, _ = await disk.back_up([])
    assert len(disk.reads) == 31
    assert disk.sound()
    assert "no previous snapshot" in outcome.remarks[0]


async def test_another_size_reads_everything(disk: Disk) -> None:
    await disk.back_up()
    with disk.path.open("ab") as file:
        file.write(b"x")
    outcome, _ = await disk.back_up([])
    assert disk.sound()
    assert "bytes now" in outcome.remarks[0]


@pytest.mark.parametrize("more", [{"reread": True}, {"reread_every": 1}])
async def test_rereading_reads_everything(disk: Disk, more: dict[str, Any]) -> None:
    await disk.back_up()
    outcome, _ = await disk.back_up([], **more)
    assert len(disk.reads) == 31
    assert "time to read everything" in outcome.remarks[0]
    assert disk.server.snapshots[-1].manifest.run == 0


async def test_a_lost_chunk_is_read_and_sent_again(disk: Disk) -> None:
    await disk.back_up()
    content = disk.server.snapshots[-1].indexes["disk.img"]
    lost = content[index.HEADER_BYTES + 4 * 32 :][:32]
    disk.server.unavailable.add(lost)
    _, transport = await disk.back_up([])
    assert (disk.reads, transport.sent) == ([4], [lost])
    assert disk.sound()


@pytest.mark.parametrize("percent", [None, 100.0])
async def test_a_map_that_lies_is_caught_by_the_sample(disk: Disk, percent: float | None) -> None:
    await disk.back_up()
    disk.write(*(number * CHUNK for number in range(30)))
    with pytest.raises(FailedError, match=r"map of changes is wrong.*differs from host/test/2026") as caught:
        await disk.back_up([{"start": CHUNK, "length": CHUNK}], percent=percent)
    assert caught.value.hint
    assert len(disk.server.snapshots) == 1
    await disk.back_up()
    assert disk.sound()


async def test_a_whole_sample_of_a_true_map_passes(disk: Disk) -> None:
    await disk.back_up()
    _, transport = await disk.back_up(disk.write(3 * CHUNK), percent=100)
    assert len(disk.reads) == 31
    assert len(transport.sent) == 1
    assert disk.sound()


async def test_a_hole_where_data_was_contradicts_the_map(disk: Disk) -> None:
    await disk.back_up()
    content = disk.path.read_bytes()
    os.truncate(disk.path, 20 * CHUNK)
    os.truncate(disk.path, len(content))
    with pytest.raises(FailedError, match=f"at byte {20 * CHUNK}, where the map says that nothing changed"):
        await disk.back_up([])
    _, transport = await disk.back_up([{"start": 20 * CHUNK, "length": 10 * CHUNK + 77}])
    assert (disk.reads, transport.sent) == ([], [])
    assert disk.sound()


async def test_a_map_of_another_image_is_refused_before_anything_is_opened(disk: Disk) -> None:
    await disk.back_up()
    transport = disk.server.transport()
    with pytest.raises(UsageError, match="the image has"):
        await disk.back_up([{"start": 1 << 40, "length": 1}], transport=transport)
    assert transport.request is None


async def test_a_map_that_is_no_map_is_refused_before_anything_is_opened(disk: Disk, tmp_path: Path) -> None:
    await disk.back_up()
    (tmp_path / "odd").write_text("[")
    before = len(os.listdir("/proc/self/fd"))
    transport = disk.server.transport()
    changes = Changes.parse([f"disk.img={tmp_path / 'odd'}"], SINCE, group="host/test")
    with pytest.raises(UsageError, match="not a list of extents"):
        await back_up(disk.server, disk.path, "disk.img", changes=changes, transport=transport)
    assert transport.request is None
    assert len(os.listdir("/proc/self/fd")) == before
