"""SIGKILL of server and of client at random moments of a backup, round after round.

After it every listed snapshot restores byte-identical, and after a clean-up nothing unreferenced is left. Rounds are
IBS_CRASH_ROUNDS (24 by default, 200 in CI); IBS_CRASH_SEED replays a run.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import trio

from ibs.client.http import ApiClient
from ibs.client.restore.plan import RestorePlan
from ibs.client.restore.run import run_restore
from ibs.client.transport import HttpRestoreTransport
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.wire.datastore import SnapshotView
from ibs_tests.support.programs import ServerProcess, start_server
from ibs_tests.support.storecheck import examine

ROUNDS = int(os.environ.get("IBS_CRASH_ROUNDS", "24"))
SEED = int(os.environ.get("IBS_CRASH_SEED", "20261122"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def mutate(root: Path, rng: random.Random) -> None:
    """Add a large file, rewrite a few small ones, drop one."""
    (root / f"large{rng.randrange(4)}").write_bytes(rng.randbytes(rng.randrange(3_000_000, 9_000_000)))
    for _ in range(20):
        folder = root / f"d{rng.randrange(5)}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{rng.randrange(60)}").write_bytes(rng.randbytes(rng.randrange(60_000)))
    victims = sorted(root.rglob("f*"))
    if len(victims) > 200:
        victims[rng.randrange(len(victims))].unlink()


def backup_seconds(server: ServerProcess, tree: Path) -> float:
    start = time.monotonic()
    server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "kill")
    return time.monotonic() - start


def api(server: ServerProcess) -> ApiClient:
    """A client in this process: two hundred rounds of starting a program to list would take most of the time."""
    auth_id, _, secret = server.token.partition(":")
    return ApiClient(server.url, fingerprint=server.facts["fingerprint"], auth_id=auth_id, secret=secret)


def remember(server: ServerProcess, tree: Path, known: dict[str, dict[str, bytes]]) -> list[str]:
    """All listed snapshots; those not seen before hold what the tree holds now."""

    async def listed() -> list[SnapshotView]:
        async with api(server) as client:
            params = {"group": "host/kill"}
            return await client.get("/datastores/main/snapshots", list[SnapshotView], params=params)

    names = [row.snapshot for row in trio.run(listed)]
    for name in names:
        known.setdefault(name, contents(tree))
    assert set(known) <= set(names), "an acknowledged snapshot has vanished"
    return names


async def restore_each(
    server: ServerProcess, names: list[str], known: dict[str, dict[str, bytes]], target: Path
) -> None:
    """Restore every snapshot with the client's own pipeline, and compare it with what was backed up."""
    async with api(server) as client:
        for name in names:
            plan = RestorePlan(store="main", snapshot=name, archive="t.tree", target=str(target))
            async with HttpRestoreTransport(client) as transport:
                await run_restore(transport, plan, pool=ThreadPool(), clock=SystemClock())
            assert contents(target) == known[name], f"{name} came back different (seed {SEED})"
            shutil.rmtree(target)


def test_killed_at_random_points_nothing_is_lost_and_nothing_is_left(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    tree, store = tmp_path / "tree", tmp_path / "store"
    tree.mkdir()
    mutate(tree, rng)
    server = start_server(tmp_path / "server")
    server.admin("datastore", "create", "main", "--path", str(store))
    known: dict[str, dict[str, bytes]] = {}
    span = backup_seconds(server, tree) * 1.1
    remember(server, tree, known)
    for number in range(ROUNDS):
        mutate(tree, rng)
        client = server.start_client("main", "backup", f"t.tree:{tree}", "--backup-id", "kill")
        time.sleep(rng.uniform(span * 0.2, span))
        if number % 2:
            client.kill()
            client.wait()
        else:
            server.kill()
            client.wait(60)
            server = start_server(tmp_path / "server")
        remember(server, tree, known)
        if number % 10 == 9:
            server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "kill")
            remember(server, tree, known)
    server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "kill")
    names = remember(server, tree, known)
    server.client("main", "restore", names[-1], "t.tree", str(tmp_path / "newest"))
    assert contents(tmp_path / "newest") == known[names[-1]]
    trio.run(restore_each, server, names, known, tmp_path / "back")
    verified = server.admin("verify", "start", "main", "--output", "json").json()
    assert verified["state"] == "OK"
    server.admin("datastore", "cleanup", "main")
    assert server.stop() == 0
    found = examine(store)
    assert set(found.snapshots) == set(known)
    assert found.clean, found
