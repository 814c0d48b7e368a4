"""Disks with a map of changes, with the real programs; the maps are those that QEMU's and libnbd's tools make."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import ServerProcess, running_server

MIB = 1 << 20
needs_qemu = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("qemu-img", "qemu-io", "qemu-nbd")), reason="needs qemu-utils"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("changes")
    with running_server(folder) as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        yield running


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def back_up(server: ServerProcess, disk: Path, name: str, *options: str, check: int = 0) -> Any:
    return server.client(
        "main", "backup", f"disk.img:{disk}", "--backup-type", "vm", "--backup-id", name, *options, "-o", "json",
        check=check,
    )  # fmt: skip


def restored(server: ServerProcess, name: str, folder: Path) -> str:
    target = folder / "restored.raw"
    target.unlink(missing_ok=True)
    server.client("main", "restore", f"vm/{name}", "disk.img", str(target))
    return digest(target)


def test_a_map_saves_reading_and_the_wrong_base_does_not_lose_changes(server: ServerProcess, tmp_path: Path) -> None:
    disk, changes = tmp_path / "disk.raw", tmp_path / "changes.json"
    disk.write_bytes(os.urandom(64 * MIB))
    first = back_up(server, disk, "own").json()
    with disk.open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"changed")
    changes.write_text(json.dumps([{"start": 9 * MIB, "length": 7}]))
    options = ("--changed", f"disk.img={changes}", "--changed-since", first["snapshot"])
    second = back_up(server, disk, "own", *options, "--verify-unchanged", "0").json()
    assert (second["bytes_read"], second["bytes_reused"]) == (4 * MIB, 60 * MIB)
    assert restored(server, "own", tmp_path) == digest(disk)
    # The same map once more counts from a snapshot that is no longer the newest: everything is read, and told.
    with disk.open("r+b") as file:
        file.seek(33 * MIB)
        file.write(b"changed too")
    third = back_up(server, disk, "own", *options).json()
    assert third["bytes_read"] == 64 * MIB
    assert "the map of changes is not used" in third["remarks"][0]
    log = server.admin("task", "log", third["upid"]).out
    assert "the map of changes is not used" in log
    assert first["snapshot"] in log
    assert restored(server, "own", tmp_path) == digest(disk)


def test_a_lying_map_makes_no_snapshot(server: ServerProcess, tmp_path: Path) -> None:
    disk, changes = tmp_path / "disk.raw", tmp_path / "changes.json"
    disk.write_bytes(os.urandom(40 * MIB))
    first = back_up(server, disk, "liar").json()
    disk.write_bytes(os.urandom(40 * MIB))
    changes.write_text("[]")
    options = ("--changed", f"disk.img={changes}", "--changed-since", first["snapshot"])
    failed = back_up(server, disk, "liar", *options, check=1)
    assert "map of changes is wrong" in failed.err
    listed = server.client("main", "snapshot", "list", "vm/liar", "-o", "json").json()
    assert len(listed) == 1


@needs_qemu
@pytest.mark.parametrize("tool", ["qemu-img", "nbdinfo"])
def test_a_dirty_bitmap_of_qemu(server: ServerProcess, tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool} (libnbd-bin)")
    # A qcow2 file that holds nothing but the bitmap; its data file is the raw disk.
    disk, book, changes = tmp_path / "disk.raw", tmp_path / "book.qcow2", tmp_path / "changes.json"
    run("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={disk},data_file_raw=on", book, "96M")
    run("qemu-io", "-c", "write -P 1 0 40M", "-c", "write -P 7 70M 9M", book)
    first = back_up(server, disk, tool).json()
    run("qemu-img", "bitmap", "--add", "--enable", "-g", "65536", book, "since")
    run("qemu-io", "-c", "write -P 2 5M 1M", "-c", "write -z 20M 8M", "-c", "write -P 3 95M 512k", book)
    changes.write_text(dirty_extents(tool, book, tmp_path))
    options = ["--changed", f"disk.img={changes}", "--changed-since", first["manifest_digest"]]
    if tool == "qemu-img":
        refused = back_up(server, disk, tool, *options, check=2)
        assert "--changed-format qemu-bitmap" in refused.err
        options += ["--changed-format", "qemu-bitmap"]
    second = back_up(server, disk, tool, *options, "--verify-unchanged", "0").json()
    assert second["bytes_read"] <= 16 * MIB
    assert second["remarks"][0].startswith("disk.img: 20 of 24 chunks are taken from")
    assert restored(server, tool, tmp_path) == digest(disk)
    third = back_up(server, disk, tool).json()
    assert third["chunks_sent"] == 0


def dirty_extents(tool: str, book: Path, folder: Path) -> str:
    """What the tool says of the bitmap, over NBD."""
    socket, pid = folder / "nbd.sock", folder / "nbd.pid"
    run("qemu-nbd", "-r", "-t", "-f", "qcow2", "-B", "since", "-k", socket, "--fork", f"--pid-file={pid}", book)
    try:
        if tool == "nbdinfo":
            return run("nbdinfo", "--map=qemu:dirty-bitmap:since", "--json", f"nbd+unix:///?socket={socket}")
        options = f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:since"
        return run("qemu-img", "map", "--output=json", "--image-opts", options)
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
