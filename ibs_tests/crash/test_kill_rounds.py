"""SIGKILL of server and of client at random moments of a backup, round after round.

After it every listed snapshot restores byte-identical, and after a clean-up nothing unreferenced is left. Rounds are
IBS_CRASH_ROUNDS (24 by default, 200 in CI); IBS_CRASH_SEED replays a run.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from ibs.client.http import ApiClient
from ibs.client.restore.plan import RestorePlan
from ibs.client.restore.run import run_restore
from ibs.client.transport import HttpRestoreTransport
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.wire.datastore import SnapshotView
from ibs.wire.system import TaskView
from ibs_tests.support.programs import ServerProcess, start_server
from ibs_tests.support.storecheck import examine

ROUNDS = int(os.environ.get("IBS_CRASH_ROUNDS", "24"))
Contents = dict[str, bytes]
SEED = int(os.environ.get("IBS_CRASH_SEED", "20261122"))


def contents(root: Path) -> Contents:
    """Digest of every file by its path."""
    return {
        str(path.relative_to(root)): blake3(path.read_bytes()).digest() for path in root.rglob("*") if path.is_file()
    }


def mutate(root: Path, rng: random.Random) -> None:
    """Add a large file, rewrite a few small ones, drop one."""
    (root / f"large{rng.randrange(4)}").write_bytes(rng.randbytes(rng.randrange(6_000_000, 14_000_000)))
    for _ in range(20):
        folder = root / f"d{rng.randrange(5)}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{rng.randrange(60)}").write_bytes(rng.randbytes(rng.randrange(60_000)))
    victims = sorted(root.rglob("f*"))
    if len(victims) > 200:
        victims[rng.randrange(len(victims))].unlink()


def back_up(server: ServerProcess, tree: Path) -> float:
    """One backup to its end; the seconds its session took. A killed client's session may be busy for a while."""
    deadline = time.monotonic() + 120
    while True:
        done = server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "kill", "--output", "json", check=None)
        if done.status == 0:
            return float(done.json()["seconds"])
        assert done.status == 6, done
        assert "is being backed up" in done.err, done
        assert time.monotonic() < deadline


def wait_for_session(server: ServerProcess, client: subprocess.Popen[bytes]) -> None:
    """Return when the client's backup is at work on the server (or the client has ended)."""

    async def poll() -> None:
        async with api(server) as asking:
            while client.poll() is None:
                tasks = await asking.get("/tasks", list[TaskView], params={"state": "running", "type": "backup"})
                if tasks:
                    return

    trio.run(poll)


def api(server: ServerProcess) -> ApiClient:
    """A client in this process: two hundred rounds of starting a program to list would take most of the time."""
    auth_id, _, secret = server.token.partition(":")
    return ApiClient(server.url, fingerprint=server.facts["fingerprint"], auth_id=auth_id, secret=secret)


def listed_snapshots(server: ServerProcess) -> list[str]:
    """Names of all snapshots of the group, oldest first."""

    async def listed() -> list[SnapshotView]:
        async with api(server) as client:
            params = {"group": "host/kill"}
            return await client.get("/datastores/main/snapshots", list[SnapshotView], params=params)

    return [row.snapshot for row in trio.run(listed)]


async def restore_each(server: ServerProcess, known: dict[str, list[Contents]], target: Path) -> None:
    """Restore every snapshot with the client's own pipeline, and compare it with what was backed up."""
    async with api(server) as client:
        for name, candidates in known.items():
            plan = RestorePlan(store="main", snapshot=name, archive="t.tree", target=str(target))
            async with HttpRestoreTransport(client) as transport:
                await run_restore(transport, plan, pool=ThreadPool(), clock=SystemClock())
            assert contents(target) in candidates, f"{name} came back different (seed {SEED})"
            shutil.rmtree(target)


class World:
    """One server at a time on one state folder, what it was given, and what must still be there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tree, self.store = folder, folder / "tree", folder / "store"
        self.rng = random.Random(SEED)
        self.known: dict[str, list[Contents]] = {}
        """For each snapshot the tree it was seen after, and the one before: a commit that was under way when its client
        was killed may become visible after the next round has begun."""
        self.before: Contents = {}
        self.tree.mkdir()
        self.server = start_server(folder / "server")

    def back_up(self) -> float:
        """A whole backup of the tree as it is now, remembered; the seconds its session took."""
        seconds = back_up(self.server, self.tree)
        self.remember()
        return seconds

    def remember(self) -> list[str]:
        """All listed snapshots; none that was seen before may be gone."""
        now, names = contents(self.tree), listed_snapshots(self.server)
        for name in names:
            self.known.setdefault(name, [now, self.before])
        self.before = now
        assert set(self.known) == set(names), "an acknowledged snapshot has vanished"
        return names

    def round(self, *, kill_client: bool, kill_server: bool, span: float) -> None:
        """One backup of which one or both sides are killed somewhere within `span` seconds of its session."""
        mutate(self.tree, self.rng)
        client = self.server.start_client("main", "backup", f"t.tree:{self.tree}", "--backup-id", "kill")
        wait_for_session(self.server, client)
        time.sleep(self.rng.uniform(0, span))
        if kill_client:
            client.kill()
        if kill_server:
            self.server.kill()
        client.wait(60)
        if kill_server:
            self.server = start_server(self.folder / "server")
        self.remember()

    def close(self) -> None:
        if self.server.process.poll() is None:
            self.server.kill()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.mark.slow
def test_killed_at_random_points_nothing_is_lost_and_nothing_is_left(world: World, tmp_path: Path) -> None:
    world.server.admin("datastore", "create", "main", "--path", str(world.store))
    for _ in range(2):
        mutate(world.tree, world.rng)
        span = world.back_up()
    for number in range(ROUNDS):
        client, server = ((False, True), (True, False), (True, True), (True, False))[number % 4]
        world.round(kill_client=client, kill_server=server, span=span)
        if number % 10 == 9:
            world.back_up()
    world.back_up()
    names = world.remember()
    world.server.client("main", "restore", names[-1], "t.tree", str(tmp_path / "newest"))
    assert contents(tmp_path / "newest") == contents(world.tree)
    trio.run(restore_each, world.server, world.known, tmp_path / "back")
    tasks = world.server.admin("task", "list", "--type", "backup", "--limit", "10000", "--output", "json").json()
    broken = [task for task in tasks if task["state"] in ("FAILED", "CANCELLED")]
    assert len(broken) >= ROUNDS // 3, "too few backups were met in their middle: the rounds prove little"
    assert world.server.admin("verify", "start", "main", "--output", "json").json()["state"] == "OK"
    world.server.admin("datastore", "cleanup", "main")
    assert world.server.stop() == 0
    found = examine(world.store)
    assert set(found.snapshots) == set(world.known)
    assert found.clean, found
