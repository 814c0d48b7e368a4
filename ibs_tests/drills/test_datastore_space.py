"""Symptoms S2 and S3: a datastore out of bytes or inodes, and a garbage collection that takes long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.storecheck import examine
from ibs_tests.support.stores import SmallDisk, small_disk

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def image(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def backup(server: ServerProcess, store: str, file: Path, who: str, check: int | None = 0) -> str:
    done = server.client(store, "backup", f"disk.img:{file}", "--backup-id", who, "-o", "json", check=check)
    return str(done.json()["snapshot"]) if done.status == 0 else done.err


def stats(server: ServerProcess, store: str) -> Any:
    return server.admin("datastore", "stats", store, "-o", "json").json()


def forget(server: ServerProcess, store: str, snapshot: str) -> None:
    server.admin("snapshot", "forget", store, snapshot)
    server.admin("bin", "empty", store, snapshot)


@pytest.fixture(params=["ext4 bytes", "tmpfs inodes"])
def full(request: pytest.FixtureRequest, server: ServerProcess, tmp_path: Path) -> Iterator[tuple[str, str, SmallDisk]]:
    """A datastore on a small disk of its own, and what will run out there."""
    kind, what = request.param.split()
    inodes = 900 if what == "inodes" else 0
    with small_disk(kind, tmp_path / "disk", size=96 * MIB, inodes=inodes) as disk:
        store = request.param.replace(" ", "-")
        server.admin("datastore", "create", store, "--path", str(disk.mounted / "store"))
        yield store, what, disk
        server.admin("datastore", "remove", store)


@pytest.mark.root
@needs_root
def test_s2_garbage_collection_frees_a_really_full_disk(
    server: ServerProcess, full: tuple[str, str, SmallDisk], tmp_path: Path
) -> None:
    store, what, disk = full
    size = 12 * MIB if what == "inodes" else 24 * MIB
    old = backup(server, store, image(tmp_path / "old", size), "old")
    kept = backup(server, store, image(tmp_path / "kept", 4 * MIB), "kept")
    more = image(tmp_path / "more", 12 * MIB if what == "bytes" else 8 * MIB)
    disk.fill(inodes=what == "inodes")
    assert os.statvfs(disk.mounted).f_favail == 0 if what == "inodes" else os.statvfs(disk.mounted).f_bavail < 16

    refused = backup(server, store, more, "more", check=1)
    assert f"no space: datastore {store} has no free {what}" in refused
    assert f"datastore stats {store}; free some, or run ironcore-backup gc start {store}" in refused
    probed = server.admin("datastore", "probe", store)
    assert f"no space: no free {what}" in probed.out
    found = stats(server, store)
    assert (found["bytes_free"] if what == "bytes" else found["inodes_free"]) < 65_536

    server.client(store, "restore", kept, "disk.img", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "kept").read_bytes()
    forget(server, store, old)
    before = os.statvfs(disk.mounted)
    collected = server.admin("gc", "start", store, "--allow-share", "100")
    assert "the disk is short of space, nothing went to trash" in collected.out
    assert f"freed now: {size // (4 * MIB)} chunks" in collected.out
    after = os.statvfs(disk.mounted)
    # The reserve is whole again, so inodes are back where they were, and bytes nearly all.
    assert (after.f_bfree - before.f_bfree) * after.f_frsize >= size * 0.85
    assert stats(server, store)["trash_chunks"] == 0
    if what == "inodes":
        disk.empty()
    backup(server, store, more, "more")
    server.admin("verify", "start", store)


def test_s3_a_long_collection_is_seen_held_bounded_and_survives_a_crash(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        old = backup(server, "main", image(tmp_path / "old", 24 * MIB), "old")
        kept = backup(server, "main", image(tmp_path / "kept", 8 * MIB), "kept")
        forget(server, "main", old)
        slow = ("gc", "start", "main", "--allow-share", "100", "--io-limit", "1KiB/s", "--detach")
        server.admin(*slow)
        server.admin("gc", "pause", "main")
        paused = status(server)
        while paused["state"] != "paused":
            paused = status(server)
        assert paused["phase"] in {"preparing", "marking", "sweeping"}
        assert "paused" in server.admin("gc", "status").out
        backup(server, "main", image(tmp_path / "meanwhile", MIB), "meanwhile")  # the others go on
        assert "goes on" in server.admin("gc", "resume", "main").out
        assert status(server)["state"] != "paused"
        server.kill()
    with running_server(tmp_path / "server") as server:
        assert status(server)["state"] == "interrupted"
        assert "was cut off; nothing is lost" in server.admin("gc", "status").out
        done = server.admin("gc", "start", "main", "--allow-share", "100", "--reclaim", "now")
        assert "was cut off" in done.out
        assert status(server)["last"]["freed_bytes"] >= 24 * MIB
        server.client("main", "restore", kept, "disk.img", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "kept").read_bytes()
        assert server.stop() == 0
    found = examine(tmp_path / "store")
    assert found.clean, found


def status(server: ServerProcess) -> Any:
    [row] = server.admin("gc", "status", "main", "-o", "json").json()
    return row
