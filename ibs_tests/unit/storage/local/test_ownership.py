from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline, FormatError
from ibs.storage.local import ownership
from ibs.storage.local.layout import Generation, Owner


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "lock").touch()
    ownership.write_owner(fd, Owner(server="", fence=0))
    yield fd
    os.close(fd)


def test_one_holder_of_the_lock_at_a_time(meta: int) -> None:
    first = ownership.take_lock(meta, "main")
    with pytest.raises(DatastoreOffline, match="in use by another server"):
        ownership.take_lock(meta, "main")
    os.close(first)
    os.close(ownership.take_lock(meta, "main"))


def test_a_lost_lock_file_is_never_made_again(meta: int, tmp_path: Path) -> None:
    (tmp_path / "lock").unlink()
    with pytest.raises(DatastoreOffline, match="lock is missing"):
        ownership.take_lock(meta, "main")
    assert not (tmp_path / "lock").exists()


def test_claiming_raises_the_fence_once(meta: int) -> None:
    mine = ownership.claim(meta, "main", "a", takeover=False)
    assert mine == Owner(server="a", fence=1)
    assert ownership.claim(meta, "main", "a", takeover=False) == mine


def test_another_servers_store_needs_a_takeover_that_fences_it_out(meta: int) -> None:
    mine = ownership.claim(meta, "main", "a", takeover=False)
    with pytest.raises(DatastoreOffline, match="owner elsewhere: it belongs to server a"):
        ownership.claim(meta, "main", "b", takeover=False)
    ownership.check_fence(meta, "main", mine)
    assert ownership.claim(meta, "main", "b", takeover=True) == Owner(server="b", fence=2)
    with pytest.raises(DatastoreOffline, match="server b took it over"):
        ownership.check_fence(meta, "main", mine)


def test_a_spoilt_owner_record_is_offline_not_ours(meta: int, tmp_path: Path) -> None:
    mine = ownership.claim(meta, "main", "a", takeover=False)
    (tmp_path / "owner").write_text("{")
    with pytest.raises(DatastoreOffline, match="damaged"):
        ownership.check_fence(meta, "main", mine)
    (tmp_path / "owner").unlink()
    with pytest.raises(DatastoreOffline, match="damaged"):
        ownership.check_fence(meta, "main", mine)


def test_records_are_read_back(meta: int, tmp_path: Path) -> None:
    generation = Generation(generation=4, clean=True, boot_id="b")
    ownership.write_generation(meta, generation)
    assert ownership.read_generation(meta) == generation
    identity = {"format": 1, "uuid": "u", "created": "c", "name": "n"}
    (tmp_path / "datastore.json").write_text(json.dumps(identity))
    assert ownership.read_identity(meta).uuid == "u"
    (tmp_path / "datastore.json").write_bytes(b" " * 100_000)
    with pytest.raises(FormatError):
        ownership.read_identity(meta)


def test_the_boot_has_an_id() -> None:
    assert len(ownership.boot_id()) == 36
