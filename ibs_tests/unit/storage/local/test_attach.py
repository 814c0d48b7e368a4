"""Finding an existing store: which, whose, free; nothing is changed by looking."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.errors import ConflictError, FormatError, UsageError
from ibs.storage.local import Existing, LocalStore, find_existing
from ibs_tests.support.stores import CREATED, SERVER, UUID


@pytest.fixture
def path(tmp_path: Path) -> str:
    LocalStore.create(str(tmp_path / "s"), "s1", UUID, created=CREATED)
    return str(tmp_path / "s")


def test_what_is_there_is_told(path: str) -> None:
    assert find_existing(path) == Existing(UUID, "s1", "", 0)
    store = LocalStore.open(path, UUID, SERVER, name="s1")
    with pytest.raises(ConflictError, match="in use by a running server"):
        find_existing(path)
    store.close()
    assert find_existing(path) == Existing(UUID, "s1", SERVER, 1)


def test_a_store_given_up_belongs_to_nobody(path: str) -> None:
    store = LocalStore.open(path, UUID, SERVER, name="s1")
    store.give_up()
    store.close()
    assert find_existing(path) == Existing(UUID, "s1", "", 2)
    LocalStore.open(path, UUID, "another", name="s1").close()
    assert find_existing(path).owner == "another"


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: (path / ".ibs").mkdir(parents=True)])
def test_what_is_no_store_is_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(UsageError, match="is not a datastore"):
        find_existing(str(tmp_path / "x"))


def test_a_damaged_identity_is_no_reason_to_guess(path: str) -> None:
    Path(path, ".ibs/datastore.json").write_bytes(b"{")
    with pytest.raises(FormatError):
        find_existing(path)
