"""Symptoms S1, S4, S17, S18, S19: a datastore that is away, damaged, or unverified; found and cured by commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, module_command, running_server

STORE = "ibs-primary"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(3):
        (folder / f"file{number}").write_bytes(os.urandom(1_500_000))
    return folder


def made(server: ServerProcess, path: Path) -> Path:
    server.admin("datastore", "create", STORE, "--path", str(path))
    return path


def backup(server: ServerProcess, tree: Path, who: str = "web01", check: int | None = 0) -> str:
    done = server.client(STORE, "backup", f"data.tree:{tree}", "--backup-id", who, "-o", "json", check=check)
    return str(done.json()["snapshot"]) if done.status == 0 else done.err


def biggest_chunk(store: Path) -> Path:
    return max(store.glob("chunks/????/*"), key=lambda path: path.stat().st_size)


def spoil(path: Path) -> None:
    """Flip a bit where it lies, as a disk does: length and times stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_s1_an_unmounted_datastore_says_so_and_comes_back(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    disk, mount = tmp_path / "disk", tmp_path / "mnt"
    disk.mkdir()
    mount.mkdir()
    subprocess.run(["mount", "--bind", disk, mount], check=True)
    try:
        made(server, mount)
        snapshot = backup(server, tree)
        subprocess.run(["umount", "-l", mount], check=True)
        probed = server.admin("datastore", "probe", STORE, check=6)
        assert "offline" in probed.out
        assert f"not mounted: {mount} is another file system or folder" in probed.out
        assert "offline" in server.admin("datastore", "list").out
        assert "not mounted" in (server.folder / "log/api.log").read_text()
        refused = server.client(STORE, "backup", f"data.tree:{tree}", check=6)
        assert "is offline: not mounted" in refused.err
        again = server.admin("datastore", "probe", STORE, check=6)
        assert f"not mounted: the folder {mount} is empty" in again.out
        assert list(mount.iterdir()) == []
        subprocess.run(["mount", "--bind", disk, mount], check=True)
        assert server.admin("datastore", "probe", STORE, "-o", "json").json()["status"] == "online"
        server.client(STORE, "restore", snapshot, "data.tree", str(tmp_path / "back"))
    finally:
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def test_s1_another_store_in_its_place_is_not_taken_for_it(server: ServerProcess, tmp_path: Path) -> None:
    store = made(server, tmp_path / "store")
    server.admin("datastore", "create", "other", "--path", str(tmp_path / "other"))
    server.admin("datastore", "maintenance", STORE, "offline", "--drain", "0")
    server.admin("datastore", "remove", "other")
    store.rename(tmp_path / "kept")
    (tmp_path / "other").rename(store)
    refused = server.admin("datastore", "maintenance", STORE, "off", check=6)
    assert "wrong uuid" in refused.err
    assert "is offline" in refused.err
    store.rename(tmp_path / "other")
    (tmp_path / "kept").rename(store)
    server.admin("datastore", "maintenance", STORE, "off")
    assert server.admin("datastore", "list", "-o", "json").json()[0]["status"] == "online"


def test_s4_a_missing_chunk_names_every_affected_snapshot(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    store = made(server, tmp_path / "store")
    hurt = {backup(server, tree), backup(server, tree, "web02")}
    (tmp_path / "small").mkdir()
    (tmp_path / "small/file").write_bytes(b"innocent")
    fine = backup(server, tmp_path / "small", "web03")
    biggest_chunk(store).unlink()
    restored = server.client(STORE, "restore", sorted(hurt)[0], "data.tree", str(tmp_path / "back"), check=None)
    assert "chunk not found" in restored.out + restored.err
    verified = server.admin("verify", "start", STORE, "--notification-mode", "always", check=1)
    assert {snapshot for snapshot in hurt if f"snapshot affected: {snapshot}" in verified.out} == hurt
    known = server.admin("verify", "affected", STORE, "-o", "json", check=4).json()
    assert (set(known["snapshots"]), known["bad_chunks"]) == (hurt, 1)
    assert known["chunks"][0]["result"] == "MISSING"
    rows = {row["snapshot"]: row["result"] for row in server.admin("verify", "status", "-o", "json").json()}
    assert rows == dict.fromkeys(hurt, "MISSING") | {fine: "OK"}
    assert "verify" in server.admin("notification", "inbox").out


def test_s17_corruption_is_quarantined_found_and_healed(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    store = made(server, tmp_path / "store")
    first = backup(server, tree)
    server.admin("verify", "start", STORE, "--notification-mode", "always")
    bad = biggest_chunk(store)
    spoil(bad)
    verified = server.admin("verify", "start", STORE, "--notification-mode", "always", check=1)
    assert f"CORRUPT chunk {bad.name}" in verified.out
    assert f"snapshot affected: {first}" in verified.out
    assert bad.with_name(bad.name + ".bad").exists()

    quarantined = server.admin("datastore", "quarantine", STORE, "--reason", "CORRUPT chunks")
    assert f"datastore {STORE} is quarantined" in quarantined.out
    refused = server.client(STORE, "backup", f"data.tree:{tree}", "--backup-id", "web02", check=3)
    assert f"error: datastore {STORE} is quarantined (CORRUPT chunks): it takes no new backups" in refused.err
    assert f"datastore release {STORE} --cause" in refused.err
    assert server.admin("gc", "start", STORE, check=None).status != 0
    server.client(STORE, "snapshot", "list")
    server.admin("datastore", "reindex", STORE)
    server.admin("verify", "start", STORE, check=1)
    assert server.admin("datastore", "probe", STORE, check=4).out.startswith(f"datastore {STORE}: quarantined")
    assert server.admin("datastore", "stats", STORE, "-o", "json").json()["mode"] == "quarantined"

    server.kill()  # it outlives a crash
    with running_server(server.folder) as later:
        assert later.admin("datastore", "list", "-o", "json").json()[0]["status"] == "quarantined"
        assert later.admin("datastore", "release", STORE, check=2).status == 2
        later.admin("datastore", "release", STORE, "--cause", "a bad cable, replaced")
        backup(later, tree, "web02")
        later.admin("verify", "start", STORE, "--notification-mode", "always")
        log = later.admin("task", "list", "-o", "json").json()
        healed = next(task for task in log if task["type"] == "verify")["upid"]
        assert f"{first}: it was damaged and is whole again" in later.admin("task", "log", healed).out
        later.client(STORE, "restore", first, "data.tree", str(tmp_path / "back"))
        for path in tree.iterdir():
            assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_s18_stale_says_why(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    store = made(server, tmp_path / "store")
    snapshot = backup(server, tree)
    server.admin("verify", "start", STORE)
    state = store / "ns" / snapshot / "state.json"
    said = json.loads(state.read_text())
    said["verify"]["time"] = "2020-01-01T00:00:00Z"
    state.write_text(json.dumps(said))
    (row,) = server.admin("verify", "status", "-o", "json").json()
    assert (row["result"], row["store"]) == ("STALE", STORE)
    assert "more than 30 days ago; no verification ran in time: no schedule" in row["stale"]
    assert "STALE" in server.admin("verify", "status").out
    server.admin("verify", "start", STORE)
    assert server.admin("verify", "status", "-o", "json").json()[0]["result"] == "OK"


def test_s19_the_window_is_forecast_and_bounded(server: ServerProcess, tmp_path: Path) -> None:
    made(server, tmp_path / "store")
    (tmp_path / "big").write_bytes(os.urandom(20 << 20))
    server.client(STORE, "backup", f"disk.img:{tmp_path / 'big'}")
    options = ("--verify-window-days", "30", "--max-concurrent-snapshots", "2", "--io-limit", "500MiB/s")
    server.admin("verify", "start", STORE, *options)
    (row,) = server.admin("verify", "status", "--summary", "-o", "json").json()
    assert (row["name"], row["fits"], row["ok"]) == (STORE, True, 1)
    assert "of the window of 30 days" in server.admin("verify", "status").out
    server.admin("verify", "start", STORE, "--max-concurrent-snapshots", "99", check=2)


def test_a_lost_servers_datastore_is_adopted_by_another(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    store = made(server, tmp_path / "store")
    snapshot = backup(server, tree)
    with running_server(tmp_path / "second") as second:
        busy = second.admin("datastore", "adopt", str(store), "--name", "rescued", "--takeover", check=3)
        assert "is in use by a running server on this host" in busy.err
        server.kill()
        refused = second.admin("datastore", "adopt", str(store), "--name", "rescued", check=3)
        assert "belongs to server" in refused.err
        assert "--takeover" in refused.err
        second.admin("datastore", "adopt", str(store), "--name", "rescued", "--takeover")
        second.client("rescued", "restore", snapshot, "data.tree", str(tmp_path / "back"))
    with running_server(server.folder) as old:
        row = old.admin("datastore", "list", "-o", "json").json()[0]
        assert row["status"] == "offline"
        assert "owner elsewhere" in row["reason"]


def test_s17_a_running_backup_is_interrupted_with_the_reason_and_resumed(server: ServerProcess, tmp_path: Path) -> None:
    store, big = made(server, tmp_path / "store"), tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1 << 20))
    command = [*module_command("ironcore-backup-client"), "backup", f"disk.img:{big}"]
    environment = server.client_environment(STORE)
    running = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not any(store.glob("chunks/incoming/*/*")):
        assert running.poll() is None
    running.send_signal(signal.SIGSTOP)  # so that it is certainly not done yet
    server.admin("datastore", "quarantine", STORE, "--reason", "a disk lies")
    running.send_signal(signal.SIGCONT)
    _, said = running.communicate(timeout=120)
    assert running.returncode in {3, 6}
    assert f"datastore {STORE} is quarantined" in said
    server.admin("datastore", "release", STORE, "--cause", "it does not")
    again = server.client(STORE, "backup", f"disk.img:{big}", "-o", "json").json()
    tasks = server.admin("task", "list", "-o", "json").json()
    log = server.admin("task", "log", again["upid"]).out
    assert "an interrupted backup left" in log
    failed = [task for task in tasks if task["state"] == "FAILED"]
    assert all("is quarantined" in task["message"] for task in failed)
