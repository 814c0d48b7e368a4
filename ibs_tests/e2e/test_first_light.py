"""The main job with the real programs over TLS: what goes in comes out identical, and mistakes are told well."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, finish, module_command, running_server
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import has_tools, make_disk, many_files, rich_tree

pytestmark = pytest.mark.skipif(not has_tools(), reason="needs acl, and libcap2-bin for root")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("first")
    with running_server(folder) as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        yield running


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_rich_tree_and_a_disk_come_back_identical(server: ServerProcess, tmp_path: Path) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk.raw"
    rich_tree(tree)
    make_disk(disk, seed=3)
    sources = (f"data.tree:{tree}", f"disk.img:{disk}", "--backup-id", "rich")
    first = server.client("main", "backup", *sources, "--output", "json", check=4).json()
    assert (first["status"], first["warnings"]) == ("WARNING", 1)  # the link that leads nowhere
    again = server.client("main", "backup", *sources, "--output", "json", check=4).json()
    assert again["new_chunks"] <= 2
    server.client("main", "restore", "host/rich", "data.tree", str(tmp_path / "back"))
    assert tree_differences(str(tree), str(tmp_path / "back")) == []
    server.client("main", "restore", "host/rich", "disk.img", str(tmp_path / "back.raw"))
    assert digest(tmp_path / "back.raw") == digest(disk)
    holes_in_steps = 2048  # of 512 bytes: zero runs become holes 64 KiB at a time
    assert (tmp_path / "back.raw").stat().st_blocks <= disk.stat().st_blocks + holes_in_steps
    snapshots = server.client("main", "snapshot", "list", "--output", "json").json()
    assert [row["group"] for row in snapshots if row["group"] == "host/rich"] == ["host/rich"] * 2
    checked = server.admin("verify", "start", "main", "--notification-mode", "always", "--output", "json").json()
    assert checked["state"] == "OK"
    assert {row["result"] for row in server.admin("verify", "status", "--output", "json").json()} == {"OK"}


def test_changes_travel_alone_and_old_snapshots_stay(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=5, count=400)
    server.client("main", "backup", f"d.tree:{tree}", "--backup-id", "delta")
    before = tmp_path / "before"
    shutil.copytree(tree, before, symlinks=True)
    (tree / "d003" / "f00170").write_text("new content")
    (tree / "d001" / "f00070").unlink()
    (tree / "added").write_bytes(os.urandom(3_000_000))
    changed = server.client("main", "backup", f"d.tree:{tree}", "--backup-id", "delta", "--output", "json").json()
    assert 3_000_000 < changed["new_bytes"] < 8_000_000
    rows = server.client("main", "snapshot", "list", "host/delta", "--output", "json").json()
    assert len(rows) == 2
    for row, wanted in zip(sorted(row["snapshot"] for row in rows), (before, tree), strict=True):
        target = tmp_path / ("back-" + row[-3:-1])
        server.client("main", "restore", row, "d.tree", str(target))
        assert {p.name: p.read_bytes() for p in target.rglob("f*") if p.is_file()} == {
            p.name: p.read_bytes() for p in wanted.rglob("f*") if p.is_file()
        }
        shutil.rmtree(target)
    listed = server.client(
        "main", "diff", sorted(row["snapshot"] for row in rows)[0], "d.tree", "host/delta", "--output", "json"
    ).json()
    assert {(row["change"], row["path"]) for row in listed} >= {
        ("added", "added"),
        ("removed", "d001/f00070"),
        ("changed", "d003/f00170"),
    }


def test_a_pattern_restores_only_what_it_names(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=6, count=120)
    server.client("main", "backup", f"d.tree:{tree}", "--backup-id", "pattern")
    server.client("main", "restore", "host/pattern", "d.tree", str(tmp_path / "back"), "--pattern", "d001/*7")
    assert {path.name for path in (tmp_path / "back").rglob("f*")} == {f"f000{n}7" for n in range(5, 10)}


def test_warnings_end_with_status_4_and_the_backup_is_usable(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_text("kept")
    done = server.client("main", "backup", f"d.tree:{tree}", "--backup-id", "warned", "--exclude", "*.nowhere", check=4)
    assert "*.nowhere" in done.out + done.err
    server.client("main", "restore", "host/warned", "d.tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "kept").read_text() == "kept"
    task = server.admin("task", "list", "--type", "backup", "--output", "json").json()[0]
    assert task["state"] == "WARNING"
    assert task["warnings"] == 1
    log = server.admin("task", "log", task["upid"]).out
    assert "*.nowhere" in log
    assert log.rstrip().endswith("TASK WARNING: 1")


def test_the_servers_own_files(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "own"
    rich_tree(tree, seed=9)
    run = ("backup", "run", "--store", "main", "--path", f"own.tree:{tree}", "--backup-id", "self")
    assert "dangling: symlink target is unreachable" in server.admin(*run, check=4).err
    server.client("main", "restore", "host/self", "own.tree", str(tmp_path / "back"))
    assert tree_differences(str(tree), str(tmp_path / "back")) == []


def test_rights_are_denied_by_default_and_named(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "t"
    many_files(tree, seed=7, count=10)
    nobody = server.make_token("nobody1")
    refused = server.client("main", "backup", f"t.tree:{tree}", check=3, credential=nobody)
    assert "not authorised: nobody1@ibs!t lacks" in refused.err
    assert "/datastore/main" in refused.err
    writer = server.make_token("writer1", ("/datastore/main", "Datastore.Backup"))
    other = server.make_token("writer2", ("/datastore/main", "Datastore.Backup"))
    server.client("main", "backup", f"t.tree:{tree}", "--backup-id", "mine", credential=writer)
    for command in (
        ("restore", "host/mine", "t.tree", str(tmp_path / "stolen")),
        ("backup", f"t.tree:{tree}", "--backup-id", "mine"),
    ):
        assert server.client("main", *command, check=None, credential=other).status in (3, 5)
    assert not (tmp_path / "stolen").exists()
    assert server.client("main", "snapshot", "list", "--output", "json", credential=other).json() == []
    assert len(server.client("main", "snapshot", "list", "--output", "json", credential=writer).json()) == 1


def test_wrong_credentials_and_certificates_are_refused(server: ServerProcess) -> None:
    environment = server.client_environment("main")
    wrong = environment | {"IBS_SECRET": "wrong"}
    other = environment | {"IBS_FINGERPRINT": ":".join(["ab"] * 32)}
    command = [*module_command("ironcore-backup-client"), "snapshot", "list"]
    assert finish(command, wrong, 3).err.startswith("error: ")
    refused = finish(command, other, 3)
    assert "TLS fingerprint mismatch" in refused.err
    assert server.facts["fingerprint"] in refused.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("backup", "nonsense"), 2),
        (("backup", "d.tree:/no/such/folder", "--backup-id", "x"), 1),
        (("backup", "d.tree:/etc", "--backup-type", "cow"), 2),
        (("restore", "host/none", "d.tree", "/nowhere"), 5),
        (("snapshot", "show", "host"), 2),
        (("snapshot", "files", "host/none", "d.tree"), 5),
    ],
)
def test_mistakes_get_one_clear_sentence(server: ServerProcess, arguments: tuple[str, ...], status: int) -> None:
    done = server.client("main", *arguments, check=status)
    assert "Traceback" not in done.err + done.out
    assert "error" in done.err.lower()


def test_the_wrong_datastore_is_told(server: ServerProcess) -> None:
    done = server.client("nowhere", "snapshot", "list", check=5)
    assert "nowhere" in done.err


def test_files_of_the_server_are_private(server: ServerProcess) -> None:
    assert stat.S_IMODE((server.state / "root.token").stat().st_mode) == 0o600
    auth_id, _, secret = server.token.partition(":")
    assert auth_id.startswith("root@ibs")
    for log in (server.folder / "log").glob("*.log"):
        assert secret not in log.read_text()
        for line in log.read_text().splitlines():
            assert {"time", "role", "level", "event"} <= json.loads(line).keys()


def test_services_and_listings(server: ServerProcess) -> None:
    services = server.admin("status", "--services", "--output", "json").json()
    assert {row["unit"] for row in services} == {
        f"ironcore-backup-{role}" for role in ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")
    }
    assert {row["state"] for row in services} == {"active (running)"}
    assert server.admin("datastore", "list", "--output", "json").json()[0]["status"] == "online"
    assert "main: online" in server.admin("datastore", "probe", "main").out
    stats = server.admin("datastore", "stats", "main", "--output", "json").json()
    assert stats["snapshots"] > 0
    assert stats["inodes_free"] > 0
    assert server.admin("worker", "status", "--output", "json").json()["slots"] > 0
    assert server.admin("--version").out.startswith("ironcore-backup ")
