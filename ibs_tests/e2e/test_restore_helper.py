"""A large restore uses a second process; it gives the same bytes, dies without harm, and reports the same damage."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from ibs.client.http import ApiClient
from ibs.client.restore import run
from ibs.client.restore.helper import Answer
from ibs.client.restore.offload import HelperOpener
from ibs.client.restore.plan import RestoreOutcome, RestorePlan
from ibs.client.transport import HttpRestoreTransport
from ibs.core import limits_restore
from ibs.core.keys import DataKeys
from ibs.core.limits import MIB
from ibs.errors import CorruptChunk
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.security import keyfile
from ibs_tests.support.programs import ServerProcess, running_server


@dataclass
class Site:
    server: ServerProcess
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def keys(self) -> DataKeys:
        return keyfile.open_key(keyfile.read(self.folder / "a.key"), lambda: "").keys


@dataclass
class Watched:
    """What the helper did."""

    answers: list[Answer] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    kill_after: int = -1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("helper")
    with running_server(folder / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        made = Site(server, folder)
        for number in range(12):
            (made.tree / f"d{number}").mkdir(parents=True)
            (made.tree / f"d{number}" / "noise").write_bytes(os.urandom(5 * MIB + number))
            (made.tree / f"d{number}" / "text").write_bytes(b"%d words and more words\n" % number * 60_000)
            for small in range(30):
                (made.tree / f"d{number}" / f"s{small}").write_bytes(os.urandom(100 * small))
        server.client("main", "backup", f"t.tree:{made.tree}", "--backup-id", "plain")
        server.client("main", "key", "create", str(folder / "a.key"), "--no-passphrase")
        public = folder / "a.pub"
        public.write_text(server.client("main", "key", "show", "--public", str(folder / "a.key")).out)
        server.admin("key", "register", str(public), "--datastore", "main")
        server.client(
            "main", "backup", f"t.tree:{made.tree}", "--backup-id", "sealed", "--keyfile", str(folder / "a.key")
        )
        yield made


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Every restore is worth a helper, which is waited for, and seen."""
    seen = Watched()
    ready = trio.Event()
    monkeypatch.setattr(run, "worth_it", lambda _bytes: True)
    start, opened, ask = trio.lowlevel.open_process, HelperOpener._opened, HelperOpener.open

    async def starting(command: list[str], **more: Any) -> trio.Process:
        process = await start(command, **more)
        seen.pids.append(process.pid)
        return process

    async def open_when_ready(self: HelperOpener, wanted: Any) -> Any:
        while self._input is None and not ready.is_set():
            await trio.sleep(0.01)
        ready.set()
        return await ask(self, wanted)

    def told(self: HelperOpener, places: Any, answer: Answer) -> Any:
        seen.answers.append(answer)
        if len(seen.answers) == seen.kill_after:
            os.kill(seen.pids[0], signal.SIGKILL)
        return opened(self, places, answer)

    monkeypatch.setattr(trio.lowlevel, "open_process", starting)
    monkeypatch.setattr(HelperOpener, "open", open_when_ready)
    monkeypatch.setattr(HelperOpener, "_opened", told)
    return seen


@asynccontextmanager
async def transport_to(server: ServerProcess) -> Any:
    auth_id, _, secret = server.token.partition(":")
    async with (
        ApiClient(server.url, fingerprint=server.facts["fingerprint"], auth_id=auth_id, secret=secret) as api,
        HttpRestoreTransport(api) as transport,
    ):
        yield transport


async def restore(site: Site, group: str, target: Path, keys: DataKeys | None = None) -> RestoreOutcome:
    plan = RestorePlan(store="main", snapshot=f"host/{group}", archive="t.tree", target=str(target), keys=keys)
    with trio.fail_after(120):
        async with transport_to(site.server) as transport:
            return await run.run_restore(transport, plan, pool=ThreadPool(), clock=SystemClock(), line=transport.line)


def same(left: Path, right: Path) -> None:
    subprocess.run(["diff", "-r", str(left), str(right)], check=True)


@pytest.mark.parametrize("group", ["plain", "sealed"])
async def test_the_same_bytes_come_from_two_processes(site: Site, group: str, watched: Watched, tmp_path: Path) -> None:
    outcome = await restore(site, group, tmp_path / "back", site.keys() if group == "sealed" else None)
    assert outcome.status == "OK"
    same(site.tree, tmp_path / "back")
    assert len(watched.answers) > 5
    assert outcome.stages["decode"].items >= sum(1 for _ in watched.answers)
    assert not Path(f"/proc/{watched.pids[0]}").exists()


async def test_shared_memory_that_is_short_only_costs_speed(
    site: Site, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_restore, "HELPER_MEMORY_BYTES", 6 * MIB)
    await restore(site, "plain", tmp_path / "back")
    same(site.tree, tmp_path / "back")
    assert watched.answers


@pytest.mark.parametrize("after", [1, 4])
async def test_a_helper_that_is_killed_is_done_without(
    site: Site, after: int, watched: Watched, tmp_path: Path
) -> None:
    watched.kill_after = after
    outcome = await restore(site, "plain", tmp_path / "back")
    assert outcome.status == "OK"
    same(site.tree, tmp_path / "back")
    assert after <= len(watched.answers) < 15


async def test_a_cancelled_restore_leaves_no_process(site: Site, watched: Watched, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restore, site, "plain", tmp_path / "back")
        while not watched.answers:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not Path(f"/proc/{watched.pids[0]}").exists()


async def test_damage_is_told_as_without_a_helper(site: Site, watched: Watched, tmp_path: Path) -> None:
    chunks = [path for path in (site.folder / "store" / "chunks").rglob("*") if path.is_file()]
    victims = [path for path in chunks if path.stat().st_size > MIB]
    for victim in victims:
        raw = victim.read_bytes()
        victim.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(CorruptChunk, match="needed by") as told:
        await restore(site, "plain", tmp_path / "back")
    assert watched.answers
    assert told.value.details["archive"] == "t.tree"
    assert 10 < told.value.details["lost"] <= 12
    with pytest.raises(CorruptChunk):
        await restore(site, "sealed", tmp_path / "sealed", site.keys())
    for number in range(12):
        assert (tmp_path / "back" / f"d{number}" / "text").exists(), "what is not damaged is there"
