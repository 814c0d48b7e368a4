from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.errors import NoSpace
from ibs.storage.local.held import Folders, Prefixes
from ibs_tests.support.stores import StoreBox


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_all_folders_are_held_or_none(box: StoreBox) -> None:
    before = descriptors()
    folders = Folders(os.open(box.path, os.O_RDONLY))
    assert descriptors() == before + 7
    folders.close()
    folders.close()
    assert descriptors() == before
    (box.path / "ns").rmdir()
    with pytest.raises(FileNotFoundError):
        Folders(os.open(box.path, os.O_RDONLY))
    assert descriptors() == before


def test_prefixes_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "00ff").mkdir()
    (tmp_path / "incoming").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        prefixes = Prefixes(fd)
        assert prefixes.all() == ["00ff"]
        assert prefixes.there("00ff")
        assert not prefixes.ensure("00ff")
        assert prefixes.ensure("abcd")
        assert not prefixes.ensure("abcd")
        assert prefixes.all() == ["00ff", "abcd"]
        assert (tmp_path / "abcd").is_dir()
    finally:
        os.close(fd)


def test_an_open_and_closed_store_leaves_no_descriptor(box: StoreBox) -> None:
    before = descriptors()
    store = box.open()
    held = store._held
    assert held.arrivals_path == f"chunks/incoming/{store.epoch}"
    with pytest.raises(NoSpace), held.writing("testing"):
        raise OSError(28, "full")
    store.close()
    assert descriptors() == before
