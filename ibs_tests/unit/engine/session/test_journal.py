"""The journal of a session: rows are found again, whatever order ids came in, and what was promised in vain is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibs.core import limits_index
from ibs.core.ids import chunk_id
from ibs.core.index import IdArray
from ibs.engine.session import journal as module
from ibs.engine.session.journal import JOURNAL_FILE, Journal, id_array, journal_blocks
from ibs.errors import FailedError, NoSpace
from ibs.storage.local import LocalStore, WorkFolder

NUMBERS = st.lists(st.integers(0, 60), max_size=12)


@pytest.fixture
def folder(store: LocalStore) -> WorkFolder:
    return store.staging.create("a" * 32)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECENT_IDS_MAX", 5)
    monkeypatch.setattr(module, "_RUN_IDS_MIN", 4)
    monkeypatch.setattr(limits_index, "JOURNAL_BLOCK_IDS", 7)


def ids(*numbers: int) -> list[bytes]:
    return [chunk_id(number.to_bytes(8, "big")) for number in numbers]


def array(*numbers: int) -> IdArray:
    return id_array(b"".join(ids(*numbers)))


def pin(journal: Journal, numbers: list[int]) -> None:
    new = journal.new(ids(*numbers))
    journal.add(new, journal.append(b"".join(new)))


def test_torn_last_id_is_left_out(folder: WorkFolder) -> None:
    assert len(id_array(b"a" * 32 + b"b" * 31)) == 1
    assert list(journal_blocks(folder)) == []
    folder.append(JOURNAL_FILE, b"".join(ids(*range(8))) + b"torn")
    blocks = list(journal_blocks(folder))
    assert [(first, len(some)) for first, some in blocks] == [(0, 7), (7, 1)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=st.lists(st.tuples(st.booleans(), NUMBERS, st.integers(0, 4095))), named=st.sets(st.integers(0, 60)))
def test_rows_and_what_is_left(folder: WorkFolder, steps: list[tuple[bool, list[int], int]], named: set[int]) -> None:
    folder.unlink(JOURNAL_FILE)
    journal, known, promised = Journal(folder), set[int](), set[int]()
    for pinned, numbers, mask in steps:
        if pinned:
            pin(journal, numbers)
            known |= set(numbers)
        else:  # what may be there is promised, and what is there taken
            fresh = [number for number in dict.fromkeys(numbers) if number not in known]
            there = np.array([bool(mask >> at & 1) for at in range(len(fresh))], dtype=np.bool_)
            journal.take(journal.append(b"".join(ids(*fresh))), array(*fresh), there)
            known |= {number for number, here in zip(fresh, there, strict=True) if here}
        promised |= set(numbers)
    rows = journal.rows(array(*range(61)))
    assert {number for number in range(61) if rows[number] >= 0} == known
    content = np.concatenate([np.zeros((0, 32), dtype=np.uint8), *(some for _, some in journal_blocks(folder))])
    assert len(content) == journal.length
    assert (content[rows[rows >= 0]] == array(*range(61))[rows >= 0]).all()
    assert journal.new(ids(*range(61))) == ids(*sorted(set(range(61)) - known))

    again = Journal.reopened(folder)
    assert again.length == journal.length
    for one, wanted in ((journal, promised - (named & known)), (again, promised - named)):
        mask_of = np.zeros(one.length, dtype=np.bool_)
        found = one.rows(array(*sorted(named)))
        mask_of[found[found >= 0]] = True
        assert {chunk.tobytes() for chunk in one.unnamed(mask_of)} == set(ids(*wanted))


def test_what_could_not_be_written_is_not_in_it(folder: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder)
    pin(journal, [1])

    def full(*_: object, **__: object) -> int:
        raise NoSpace("s1", "bytes")

    with monkeypatch.context() as patched:
        patched.setattr(type(folder), "append", full)
        with pytest.raises(NoSpace):
            pin(journal, [2])
    assert journal.rows(array(1, 2)).tolist() == [0, -1]
    pin(journal, [2])
    assert journal.rows(array(1, 2)).tolist() == [0, 1]


def test_a_journal_cut_short_is_noticed(folder: WorkFolder) -> None:
    journal = Journal(folder)
    pin(journal, list(range(10)))
    folder.truncate(JOURNAL_FILE, 64)
    with pytest.raises(FailedError, match="shorter"):
        journal.rows(array(9))


def test_forgotten_is_empty(folder: WorkFolder) -> None:
    journal = Journal(folder)
    pin(journal, list(range(10)))
    journal.forget()
    assert (journal.rows(array(*range(10))) == -1).all()
