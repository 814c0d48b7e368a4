"""First names of inodes: remembered until the last name, in memory or out of it alike."""

from __future__ import annotations

import random
import sqlite3

import pytest

from ibs.errors import FailedError
from ibs.sources.tree import hardlinks
from ibs.sources.tree.hardlinks import HardLinks


@pytest.mark.parametrize("memory_max", [0, 3, 1000])
def test_names_are_remembered_until_the_last(memory_max: int) -> None:
    links = HardLinks(memory_max)
    keys = [(dev, ino) for dev in (1, 1 << 40) for ino in (1, 2, (1 << 64) - 1)]
    for number, key in enumerate(keys):
        assert links.first_name(key) is None
        links.add(key, b"\xff%d" % number, 3)
    assert len(links) == 6
    for turn in range(2):
        for number, key in enumerate(keys):
            assert links.first_name(key) == b"\xff%d" % number
            links.passed(key)
            assert (links.first_name(key) is None) == (turn == 1)
    assert len(links) == 0
    links.close()
    links.close()


def test_an_inode_with_one_name_is_not_kept() -> None:
    links = HardLinks()
    links.add((1, 1), b"x", 1)
    assert len(links) == 0


def test_it_is_a_dict_whatever_fits_into_memory() -> None:
    rng = random.Random(1)
    links, model = HardLinks(20), {}
    for _ in range(3000):
        key = (rng.randrange(3), rng.randrange(50))
        if key in model:
            path, left = model.pop(key)
            assert links.first_name(key) == path
            links.passed(key)
            if left > 1:
                model[key] = (path, left - 1)
        else:
            assert links.first_name(key) is None
            names = rng.randrange(1, 5)
            links.add(key, b"%d" % rng.randrange(99), names)
            if names > 1:
                model[key] = (links.first_name(key), names - 1)
        assert len(links) == len(model)
    links.close()


def test_a_full_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(hardlinks.sqlite3, "connect", full)
    with pytest.raises(FailedError, match="disk is full"):
        HardLinks(0).add((1, 1), b"x", 2)
