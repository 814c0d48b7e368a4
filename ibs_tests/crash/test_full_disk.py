"""A full disk stops the backup that met it, in the right words, and nothing else (real small tmpfs)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.programs import running_server
from ibs_tests.support.trees import many_files

pytestmark = pytest.mark.root


@pytest.fixture(params=["bytes", "inodes"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    place = tmp_path / "disk"
    place.mkdir()
    options = {"bytes": "size=24m,nr_inodes=100k", "inodes": "size=200m,nr_inodes=100"}[request.param]
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "ibs-test", place], check=True)
    try:
        yield request.param, place
    finally:
        subprocess.run(["umount", place], check=True)


def test_no_space_says_which_and_the_server_serves_on(small_disk: tuple[str, Path], tmp_path: Path) -> None:
    exhausted, place = small_disk
    small, large = tmp_path / "small", tmp_path / "large"
    many_files(small, seed=1, count=20)
    large.mkdir()
    for number in range(60):
        (large / f"r{number}").write_bytes(os.urandom(1_100_000))
    with running_server(tmp_path / "server") as server:
        server.admin("datastore", "create", "tiny", "--path", str(place / "store"))
        server.admin("datastore", "create", "other", "--path", str(tmp_path / "other"))
        server.client("tiny", "backup", f"s.tree:{small}", "--backup-id", "small")
        failed = server.client("tiny", "backup", f"l.tree:{large}", "--backup-id", "large", check=1)
        assert f"no space: datastore tiny has no free {exhausted}" in failed.err
        assert "Traceback" not in failed.err
        task = server.admin("task", "list", "--type", "backup", "--output", "json").json()[0]
        assert task["state"] == "FAILED"
        assert "no space" in task["message"]
        services = server.admin("status", "--services", "--output", "json").json()
        assert {row["state"] for row in services} == {"active (running)"}
        assert [row["group"] for row in server.client("tiny", "snapshot", "list", "--output", "json").json()] == [
            "host/small"
        ]
        server.client("tiny", "restore", "host/small", "s.tree", str(tmp_path / "back"))
        server.client("other", "backup", f"l.tree:{large}", "--backup-id", "large")
        server.admin("datastore", "cleanup", "tiny")
        server.client("tiny", "backup", f"s.tree:{small}", "--backup-id", "small")
