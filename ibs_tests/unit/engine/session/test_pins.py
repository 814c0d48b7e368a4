"""Pin sets: what is in them, what they tell the journal and the gate, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from ibs.core.ids import PLAIN_DOMAIN, chunk_id
from ibs.core.index import IdLookup
from ibs.engine.session import pins as module
from ibs.engine.session.journal import JOURNAL_FILE, id_array
from ibs.engine.session.pins import PinGate, PinSet
from ibs.errors import BusyError, NoSpace
from ibs.storage.local import LocalStore
from ibs_tests.support.ids import table_of

OTHER_DOMAIN = b"\1" * 32


def ids(*numbers: int) -> list[bytes]:
    return [chunk_id(number.to_bytes(8, "big")) for number in numbers]


def array(*numbers: int) -> module.IdArray:
    return id_array(b"".join(ids(*numbers)))


def test_watch_hears_of_its_candidates_only_while_it_watches() -> None:
    gate = PinGate()
    gate.announce(PLAIN_DOMAIN, array(1))
    with gate.watching(PLAIN_DOMAIN, IdLookup(array(1, 2, 3))) as watch:
        assert gate.busy
        gate.announce(PLAIN_DOMAIN, array(2, 9))
        gate.announce(OTHER_DOMAIN, array(3))
    assert not gate.busy
    gate.announce(PLAIN_DOMAIN, array(3))
    assert watch.promised == set(ids(2))


def test_delete_spares_what_was_promised_meanwhile() -> None:
    gate = PinGate()
    removed: list[bytes] = []

    def remove(addresses: list[module.Address]) -> int:
        removed.extend(address.id for address in addresses)
        return 10 * len(addresses)

    with gate.watching(PLAIN_DOMAIN, IdLookup(array(1, 2, 3))) as watch:
        gate.announce(PLAIN_DOMAIN, array(2))
        assert gate.delete(watch, ids(1, 2, 3), remove) == (2, 20)
        assert gate.delete(watch, ids(2), remove) == (0, 0)
    assert removed == ids(1, 3)


def test_pinned_ids_are_in_the_journal_once_and_announced(store: LocalStore) -> None:
    folder, gate = store.staging.create("a" * 32), PinGate()
    pins = PinSet(PLAIN_DOMAIN, folder, gate, [])
    with gate.watching(PLAIN_DOMAIN, IdLookup(array(1, 2))) as watch:
        pins.pin(ids(1))
        pins.pin(ids(1, 5))
    assert folder.read(JOURNAL_FILE) == b"".join(ids(1, 5))
    assert watch.promised == set(ids(1))
    assert pins.uploaded(ids(5)[0])


def test_an_id_that_did_not_reach_the_journal_is_not_pinned(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.staging.create("a" * 32)
    pins = PinSet(PLAIN_DOMAIN, folder, PinGate(), [])

    def full(*_: object, **__: object) -> int:
        raise NoSpace("s1", "bytes")

    with monkeypatch.context() as patched:
        patched.setattr(type(folder), "append", full)
        with pytest.raises(NoSpace):
            pins.pin(ids(1))
    assert list(pins.missing(array(1))) == [0]
    pins.pin(ids(1))
    assert folder.read(JOURNAL_FILE) == ids(1)[0]


def test_missing_looks_at_bases_and_uploads(store: LocalStore) -> None:
    folder = store.staging.create("a" * 32)
    pins = PinSet(PLAIN_DOMAIN, folder, PinGate(), [table_of(array(1, 2)), table_of(array(3))])
    pins.pin(ids(7))
    assert list(pins.missing(array(1, 3, 4, 7, 8))) == [2, 4]
    assert len(pins.missing(np.zeros((0, 32), dtype=np.uint8))) == 0
    pins.release()
    assert list(pins.missing(array(1, 7))) == [0, 1]


def test_a_move_is_told_to_deletions_before_and_during_it() -> None:
    gate = PinGate()
    moved = [(PLAIN_DOMAIN, array(1, 2)), (OTHER_DOMAIN, array(3))]
    with (
        gate.watching(PLAIN_DOMAIN, IdLookup(array(1, 3))) as before,
        gate.moving(moved),
        gate.watching(OTHER_DOMAIN, IdLookup(array(3, 4))) as during,
    ):
        assert gate.busy
    with gate.watching(PLAIN_DOMAIN, IdLookup(array(1))) as after:
        pass
    assert (before.promised, during.promised, after.promised) == (set(ids(1)), set(ids(3)), set())


def test_a_move_of_unknown_ids_and_a_deletion_keep_out_of_each_others_way() -> None:
    gate = PinGate()
    with gate.moving(None), pytest.raises(BusyError), gate.watching(PLAIN_DOMAIN, IdLookup(array(1))):
        pytest.fail("it looked where things move")
    with gate.watching(PLAIN_DOMAIN, IdLookup(array(1))), pytest.raises(BusyError), gate.moving(None):
        pytest.fail("it moved while somebody looks")
    assert not gate.busy
