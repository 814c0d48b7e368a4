from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from ibs.errors import DatastoreOffline, UsageError
from ibs.storage.hooks import no_hook
from ibs.storage.memory import MemoryStore
from ibs.storage.wrap.faults import KILL_AT, FaultyStore, Plan, hook_from_environment
from ibs_tests.support.stores import make_blob


def test_a_plan_fails_the_nth_pass_and_no_other() -> None:
    plan = Plan().fail("put.temp", errno.ENOSPC, nth=2, times=2)
    plan("put.temp")
    for _ in range(2):
        with pytest.raises(OSError, match="No space") as caught:
            plan("put.temp")
        assert caught.value.errno == errno.ENOSPC
    plan("put.temp")
    plan("put.rename")
    assert plan.passed["put.temp"] == 4


def test_the_environment_names_a_point_and_a_count() -> None:
    assert hook_from_environment({}) is no_hook
    hook_from_environment({KILL_AT: "put.rename:3"})("put.rename")  # the first pass is let through
    for wrong in ("put.rename", "put.rename:", "put.rename:0", ":1x"):
        with pytest.raises(UsageError, match="not valid"):
            hook_from_environment({KILL_AT: wrong})


def test_a_kill_is_a_sigkill() -> None:
    code = "from ibs.storage.wrap.faults import Plan; Plan().kill('a')('a')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_a_faulty_store_fails_when_told_and_else_passes_on() -> None:
    store = FaultyStore(MemoryStore())
    address, blob = make_blob(1)
    store.fail_next("put", DatastoreOffline("main", "gone"))
    with pytest.raises(DatastoreOffline):
        store.put(address, blob)
    store.put(address, blob)
    assert store.get(address) == blob
    assert store.calls["put"] == 2
    assert store.barrier() == 1
    assert [info.address for info in store.iterate()] == [address]
    store.record_verified([address], 5)
    assert store.verified([address]) == [5]
    store.mark_suspect(address)
    assert store.unavailable() == {address}
    store.mark_bad(address)
    assert store.counts().bad == 1
    assert store.info([address])[0].state == "bad"
    assert store.discard([address]) == len(blob)
    store.publish("host/a/2026-11-22T19:00:00Z", {"manifest.json": b"{}"}, ["manifest.json"])
    assert store.space().bytes_free == store.space().bytes_total
    store.close()
