"""A restore never depends on its second process: what it does not do is done here."""

from __future__ import annotations

import os

import pytest
import trio

from ibs.client.dataplane import Line
from ibs.client.restore import offload
from ibs.client.restore.offload import HelperOpener, worth_it
from ibs.client.restore.opener import LocalOpener
from ibs.core import limits_restore
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import InlinePool
from ibs.wire.frames import Hello
from ibs_tests.support.restores import MemorySnapshot

NOWHERE = Line("127.0.0.1", 1, ":".join(["ab"] * 32), Hello(authorization="root@ibs:verysecret"))


def test_small_restores_and_single_processors_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    much = limits_restore.HELPER_PLAIN_BYTES_MIN
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    assert worth_it(much)
    assert not worth_it(much - 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert not worth_it(much)


def test_the_secret_is_in_no_representation() -> None:
    assert "verysecret" not in repr(NOWHERE)


@pytest.mark.parametrize("trouble", ["no server", "no interpreter", "no memory"])
async def test_without_a_helper_everything_is_opened_here(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if trouble == "no interpreter":
        monkeypatch.setattr(offload.sys, "executable", "/nonexistent/python")
    if trouble == "no memory":

        def refuse(_size: int) -> None:
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(offload, "Arena", refuse)
    snapshot = MemorySnapshot()
    contents = [os.urandom(1000) for _ in range(10)]
    wanted = [(snapshot.chunk(each), len(each)) for each in contents]
    local = LocalOpener(
        snapshot.transport(), InlinePool(), SystemClock(), domain=snapshot.domain, keys=None, entropy=os.urandom
    )
    opener = HelperOpener(local, NOWHERE, domain=snapshot.domain, keys=None)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opener.serve)
            assert await opener.open(wanted) == contents
        assert await opener.open(wanted) == contents
    assert opener.figures is local.figures
    assert opener.figures.chunks == 20
