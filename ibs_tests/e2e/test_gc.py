"""Garbage collection with the real programs: what an administrator types, reads, and gets back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.storecheck import examine
from ibs_tests.support.trees import many_files


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "server") as running:
        running.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        yield running


def back_up(server: ServerProcess, folder: Path, seed: int, backup_id: str) -> str:
    many_files(folder, seed=seed, count=12)
    server.client("main", "backup", f"t.tree:{folder}", "--backup-id", backup_id)
    rows = server.client("main", "snapshot", "list", "--output", "json").json()
    return next(str(row["snapshot"]) for row in rows if row["group"] == f"host/{backup_id}")


def forget(server: ServerProcess, snapshot: str) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    context = pinned_context(server.facts["fingerprint"])
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, verify=context, trust_env=False) as http:
        http.post("/datastores/main/snapshot/forget", json={"snapshot": snapshot}).raise_for_status()


def status(server: ServerProcess) -> Any:
    [row] = server.admin("gc", "status", "main", "--output", "json").json()
    return row


def test_forgotten_garbage_goes_by_way_of_bin_and_trash_and_can_come_back(
    server: ServerProcess, tmp_path: Path
) -> None:
    old = back_up(server, tmp_path / "old", 1, "old")
    back_up(server, tmp_path / "new", 2, "new")
    assert "freed now: 0 chunks, 0 B" in server.admin("gc", "start", "main").out
    forget(server, old)
    kept = server.admin("gc", "start", "main").out
    assert "in the bin, the first until" in kept, kept
    dry = server.admin("gc", "start", "main", "--dry-run", "--empty-bin").out
    assert "dry run: 0 chunks" in dry, "a dry run does not empty the bin"
    refused = server.admin("gc", "start", "main", "--empty-bin", check=1)
    assert "--allow-share" in refused.out + refused.err
    assert "nothing was collected" in refused.out + refused.err
    done = server.admin("gc", "start", "main", "--allow-share", "90").out
    assert "in trash until 20" in done
    assert "ironcore-backup gc undo main" in done
    row = status(server)
    assert (row["state"], row["last"]["result"], len(row["trash"])) == ("idle", "OK", 1)
    assert row["trash"][0]["chunks"] == row["last"]["retired_chunks"] > 0
    assert row["last"]["freed_bytes"] == 0
    assert "main" in server.admin("gc", "status").out
    assert "taken back out of the trash" in server.admin("gc", "undo", "main").out
    assert status(server)["trash"] == []
    nothing = server.admin("gc", "undo", "main", check=5)
    assert "trash of main is empty" in nothing.out + nothing.err
    freed = server.admin("gc", "start", "main", "--allow-share", "90", "--reclaim", "now", "--io-limit", "1GiB/s").out
    assert "as asked, nothing went to trash" in freed
    assert status(server)["last"]["freed_bytes"] > 0
    server.client("main", "restore", "host/new", "t.tree", str(tmp_path / "back"))
    assert server.admin("verify", "start", "main", "--output", "json").json()["state"] == "OK"
    tasks = server.admin("task", "list", "--type", "gc", "--output", "json").json()
    assert {task["id"] for task in tasks} == {"main", "main:dry-run", "main:undo"}
    assert server.stop() == 0
    found = examine(tmp_path / "store")
    assert found.clean, found
    assert len(found.snapshots) == 1


def test_a_quarantined_datastore_keeps_everything(server: ServerProcess, tmp_path: Path) -> None:
    forget(server, back_up(server, tmp_path / "old", 1, "old"))
    server.admin("datastore", "quarantine", "main", "--reason", "a disk lies")
    refused = server.admin("gc", "start", "main", "--empty-bin", "--reclaim", "now", check=3)
    assert "quarantined" in refused.err
    assert "Traceback" not in refused.err


def test_what_is_not_under_way_cannot_be_paused(server: ServerProcess) -> None:
    for verb in ("pause", "resume"):
        done = server.admin("gc", verb, "main", check=5)
        assert "no garbage collection of main is under way" in done.err
    assert "nowhere" in server.admin("gc", "start", "nowhere", check=5).err
    assert "not valid" in server.admin("gc", "start", "main", "--io-limit", "fast", check=2).err
