from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ibs.errors import DatastoreOffline, DatastoreReadOnly
from ibs.storage.local.gate import Gate


def test_read_only_stops_writers_only_and_keeps_its_first_reason() -> None:
    gate = Gate("main")
    gate.go_read_only("first")
    gate.go_read_only("second")
    with gate.reading():
        pass
    with pytest.raises(DatastoreReadOnly, match="first"), gate.writing():
        pass
    assert gate.read_only_reason == "first"


def test_offline_stops_everybody() -> None:
    gate = Gate("main")
    gate.go_offline("not mounted")
    for enter in (gate.reading, gate.writing):
        with pytest.raises(DatastoreOffline, match="main is offline: not mounted"), enter():
            pass
    gate.drain()


def test_drain_waits_for_whoever_is_inside() -> None:
    gate = Gate("main")
    inside, leave = threading.Event(), threading.Event()

    def visitor() -> None:
        with gate.reading():
            inside.set()
            leave.wait()

    with ThreadPoolExecutor(2) as threads:
        visit = threads.submit(visitor)
        inside.wait()
        gate.go_offline("closed")
        drained = threads.submit(gate.drain)
        assert not drained.done()
        leave.set()
        drained.result(timeout=10)
        visit.result(timeout=10)


def test_a_refused_writer_is_not_left_inside() -> None:
    gate = Gate("main")
    gate.go_read_only("why")
    with pytest.raises(DatastoreReadOnly), gate.writing():
        pass
    gate.drain()
    assert gate.offline_reason == ""
