"""The life of snapshots with the real programs: retention, prune, bin, protection, namespaces, owners, rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs.core.names import parse_time
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import many_files


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("life")
    with running_server(folder) as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        yield running


def backups(server: ServerProcess, tree: Path, group: str, count: int, *more: str, **how: Any) -> list[str]:
    """So many snapshots of a group; their full names, oldest first."""
    command = ("backup", f"t.tree:{tree}", "--backup-id", group, "--output", "json", *more)
    return [server.client("main", *command, **how).json()["snapshot"] for _ in range(count)]


def listed(server: ServerProcess, *options: str) -> list[str]:
    rows = server.admin("snapshot", "list", "main", "--output", "json", *options).json()
    return [row["snapshot"] for row in rows]


def test_what_is_forgotten_comes_back_identical(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=1, count=30)
    first, second = backups(server, tree, "undo", 2)
    server.admin("snapshot", "notes", "main", first, "before the upgrade")
    server.admin("snapshot", "protect", "main", first)
    refused = server.admin("snapshot", "forget", "main", first, check=3)
    assert f"snapshot {first} is protected" in refused.err
    assert "snapshot unprotect main" in refused.err
    server.admin("snapshot", "unprotect", "main", first)
    gone = server.admin("snapshot", "forget", "main", first, "--why", "a test", "--output", "json").json()
    assert listed(server, "--group", "host/undo") == [second]
    (entry,) = [row for row in server.admin("bin", "list", "main", "-o", "json").json() if row["snapshot"] == first]
    assert (entry["why"], entry["by"]) == ("a test", "root@ibs!local")
    # Told by the wall clock of the moment, in whole seconds: it may differ by one.
    assert abs((parse_time(entry["due"]) - parse_time(gone["due"])).total_seconds()) <= 1
    server.client("main", "restore", first, "t.tree", str(tmp_path / "no"), check=5)
    server.admin("snapshot", "undo", "main", first)
    server.client("main", "restore", first, "t.tree", str(tmp_path / "back"))
    assert tree_differences(str(tree), str(tmp_path / "back")) == []
    shown = server.admin("snapshot", "show", "main", first, "--output", "json").json()
    assert (shown["notes"], shown["protected"]) == ("before the upgrade", False)
    assert server.admin("snapshot", "forget", "main", "host/undo", check=2).err.startswith("error: snapshot host/undo")


def test_a_simulation_tells_what_the_run_then_does(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=2, count=5)
    names = backups(server, tree, "prune", 4, "--ns", "p")
    assert "nothing is ever removed" in server.admin("retention", "show", "main").out
    server.admin("retention", "set", "main", "--namespace", "p", "--keep-last", "2")
    plan = server.admin("prune", "simulate", "main", "--namespace", "p", "--output", "json").json()
    assert [(row["snapshot"], row["keep"]) for row in plan["groups"][0]["decisions"]] == [
        (name, at < 2) for at, name in enumerate(reversed(names))
    ]
    assert (plan["keep"], plan["remove"], plan["groups"][0]["level"]) == (2, 2, "namespace p")
    picture = server.admin("prune", "simulate", "main", "--ns", "p", "--calendar").out
    assert "%" in picture
    assert listed(server, "--ns", "p") == names
    done = server.admin("prune", "run", "main", "--namespace", "p")
    assert "2 snapshots kept, 2 moved to the bin" in done.out
    assert listed(server, "--ns", "p") == names[2:]
    tasks = server.admin("task", "list", "--output", "json").json()
    assert [task["state"] for task in tasks if task["type"] == "prune"] == ["OK"]
    server.admin("bin", "undo", "main", names[0])
    assert listed(server, "--ns", "p") == [names[0], *names[2:]]
    server.admin("retention", "clear", "main", "--namespace", "p")
    assert server.admin("retention", "show", "main", "--output", "json").json() == []


def test_a_prune_that_looks_like_an_accident_is_left_alone(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=3, count=5)
    names = backups(server, tree, "brake", 3)
    scope = ("main", "--group", "host/brake", "--keep-last", "1")
    simulated = server.admin("prune", "simulate", *scope, check=4)
    assert "would be left alone: it would remove 2 of 3 snapshots" in simulated.err
    server.admin("prune", "run", *scope, check=4)
    assert listed(server, "--group", "host/brake") == names
    assert any(
        "pruning of host/brake" in row["text"] for row in server.admin("notification", "inbox", "-o", "json").json()
    )
    server.admin("prune", "run", *scope, "--override")
    assert listed(server, "--group", "host/brake") == names[2:]


def test_namespaces_are_removed_when_empty_or_into_the_bin(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=4, count=5)
    server.admin("namespace", "create", "main", "n/empty")
    (name,) = backups(server, tree, "box", 1, "--ns", "n/full")
    shown = {
        row["namespace"]: row["snapshots"] for row in server.admin("namespace", "list", "main", "-o", "json").json()
    }
    assert {space: shown[space] for space in ("n", "n/empty", "n/full")} == {"n": 0, "n/empty": 0, "n/full": 1}
    assert "is not empty" in server.admin("namespace", "delete", "main", "n", check=3).err
    server.admin("namespace", "delete", "main", "n/empty")
    gone = server.admin("namespace", "delete", "main", "n", "--recursive", "--output", "json").json()
    assert (gone["removed"], gone["to_bin"]) == (["n/full", "n"], [name])
    server.admin("bin", "undo", "main", name)
    server.client("main", "restore", name, "t.tree", str(tmp_path / "back"))
    assert tree_differences(str(tree), str(tmp_path / "back")) == []


def test_whoever_only_backs_up_never_removes(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=5, count=5)
    backup = server.make_token("backup", ("/datastore/main/own", "Datastore.Backup"))
    power = server.make_token("power", ("/datastore/main/own", "Datastore.PowerUser"))
    own = ("--ns", "own")
    first, second = backups(server, tree, "mine", 2, *own, credential=backup)
    for command in (
        ("snapshot", "forget", first),
        ("snapshot", "unprotect", first),
        ("prune", "run", "host/mine", *own, "--keep-last", "1"),
        ("bin", "undo", first),
    ):
        refused = server.client("main", *command, credential=backup, check=3)
        assert "Datastore.PowerUser" in refused.err
    server.client("main", "snapshot", "protect", first, credential=backup)
    server.client("main", "snapshot", "forget", second, credential=power, check=5)
    server.admin("group", "chown", "main", "ns:own/host/mine", "power@ibs!t")
    server.client("main", "snapshot", "unprotect", first, credential=power)
    server.client("main", "snapshot", "forget", first, credential=power)
    assert listed(server, *own) == [second]
    server.client("main", "bin", "undo", first, credential=power)
    server.client("main", "prune", "run", "host/mine", *own, "--keep-last", "1", credential=power)
    assert listed(server, *own) == [second]
    assert "ns:own/host/mine" in server.admin("bin", "empty", "main", first, "-o", "json").out


def test_the_clock_of_a_datastore_is_shown_and_confirmed(server: ServerProcess) -> None:
    shown = server.admin("datastore", "clock", "show", "main", "--output", "json").json()
    assert (shown["store"], shown["frozen"]) == ("main", "")
    confirmed = server.admin("datastore", "clock", "confirm", "main", "--output", "json").json()
    assert confirmed["confirmed_by"] == "root@ibs!local"


def test_a_group_moves_and_restores_from_its_new_place(server: ServerProcess, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=6, count=5)
    (name,) = backups(server, tree, "mover", 1)
    moved = server.admin("group", "move", "main", "host/mover", "m", "--output", "json").json()["snapshots"]
    assert moved == [f"ns:m/{name}"]
    server.client("main", "restore", moved[0], "t.tree", str(tmp_path / "back"))
    assert tree_differences(str(tree), str(tmp_path / "back")) == []
    server.client("main", "restore", name, "t.tree", str(tmp_path / "no"), check=5)
    (after,) = backups(server, tree, "mover", 1, "--ns", "m")
    assert listed(server, "--ns", "m") == [moved[0], after]
    assert server.admin("verify", "start", "main", "--namespace", "m", "--output", "json").json()["state"] == "OK"


def test_upkeep_is_scheduled_and_shown(server: ServerProcess) -> None:
    made = server.admin("verify", "schedule", "set", "main", "Sun 04:30", "--io-limit", "50MiB/s").out
    assert made.startswith("verify of main: Sun 04:30, the next 20")
    refused = server.admin("verify", "schedule", "set", "main", "someday", check=2)
    assert "calendar expression 'someday' is not valid" in refused.err
    server.admin("gc", "schedule", "set", "main", "never")
    rows = server.admin("verify", "schedule", "list", "-o", "json").json()
    assert [(row["store"], row["when"], row["io_limit"], row["last"]) for row in rows] == [
        ("main", "Sun 04:30", 50 << 20, "")
    ]
    (row,) = server.admin("gc", "schedule", "list", "main", "-o", "json").json()
    assert (row["when"], row["next"], row["default"]) == ("never", "", False)
    assert "nightly default counts again" in server.admin("gc", "schedule", "unset", "main").out
    assert "no schedule is set for gc" in server.admin("gc", "schedule", "unset", "main", check=5).err
    server.admin("verify", "schedule", "unset", "main")


def test_whoever_is_disabled_is_kept_out_until_enabled_again(server: ServerProcess) -> None:
    credential = server.make_token("temp", ("/datastore/main", "Datastore.Backup"))
    server.client("main", "snapshot", "list", credential=credential)
    server.admin("user", "disable", "temp@ibs")
    refused = server.client("main", "snapshot", "list", credential=credential, check=3)
    assert "user temp@ibs is disabled" in refused.err
    server.admin("user", "enable", "temp@ibs")
    server.client("main", "snapshot", "list", credential=credential)
    warned = server.admin("acl", "grant", "/datastore/mian", "Audit", "temp@ibs")
    assert "datastore mian does not exist" in warned.out + warned.err
