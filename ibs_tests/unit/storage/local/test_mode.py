"""The mode's record in the store: written whole, read without opening, refused where another store is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ibs.errors import DatastoreOffline, FormatError
from ibs.storage.local import LocalStore, peek_mode
from ibs.storage.local.mode import read_mode, write_mode
from ibs_tests.support.stores import CREATED, SERVER, UUID


@pytest.fixture
def path(tmp_path: Path) -> str:
    LocalStore.create(str(tmp_path / "s"), "s1", UUID, created=CREATED)
    return str(tmp_path / "s")


def test_it_survives_the_store_and_its_server(path: str) -> None:
    store = LocalStore.open(path, UUID, SERVER, name="s1")
    assert store.read_mode() == b""
    store.write_mode(b'{"x":1}\n')
    assert store.read_mode() == b'{"x":1}\n'
    store.close()
    assert peek_mode(path, UUID, "s1") == b'{"x":1}\n'
    assert [each.name for each in Path(path, ".ibs").iterdir() if each.name.startswith(".tmp-")] == []


def test_another_owner_may_not_change_it(path: str) -> None:
    store = LocalStore.open(path, UUID, SERVER, name="s1")
    Path(path, ".ibs/owner").write_bytes(b'{"server":"other","fence":9}\n')
    with pytest.raises(DatastoreOffline, match="owner elsewhere"):
        store.write_mode(b"{}\n")
    store.close(clean=False)
    assert peek_mode(path, UUID, "s1") == b""


def test_where_the_store_is_not_nothing_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(DatastoreOffline, match="not mounted"):
        peek_mode(str(tmp_path / "bare"), UUID, "s1")
    with pytest.raises(DatastoreOffline, match="wrong uuid"):
        peek_mode(path, "another", "s1")


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(bytes(70_000)), lambda file: file.mkdir()])
def test_what_is_no_small_file_is_refused(path: str, spoil: Callable[[Path], object]) -> None:
    spoil(Path(path, ".ibs/mode.json"))
    with pytest.raises(FormatError):
        peek_mode(path, UUID, "s1")


def test_reading_and_writing_go_by_descriptor(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    write_mode(fd, b"{}\n")
    assert read_mode(fd) == b"{}\n"
    os.close(fd)
