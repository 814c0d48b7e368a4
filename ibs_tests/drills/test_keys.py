"""Symptoms S7, S11, S26: a key nobody registered, the wrong key, a rotation; found and cured by commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import Done, ServerProcess, running_server
from ibs_tests.support.treecmp import tree_differences


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("drill") / "server") as running:
        running.admin("datastore", "create", "main", "--path", str(running.folder / "main"))
        yield running


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "hosts").write_text("127.0.0.1 localhost\n" * 10_000)
    return folder


def key(server: ServerProcess, path: Path) -> str:
    """Make a key as a host without a person does, and write its public half beside it; its fingerprint."""
    made = server.client("main", "key", "create", str(path), "--no-passphrase", "--output", "json").json()
    path.with_suffix(".pub").write_text(server.client("main", "key", "show", str(path), "--public").out)
    return str(made["fingerprint"])


def backup(server: ServerProcess, tree: Path, who: str, keyfile: Path, check: int = 0) -> Done:
    options = ("--backup-id", who, "--keyfile", str(keyfile), "--output", "json")
    return server.client("main", "backup", f"etc.tree:{tree}", *options, check=check)


def restore(server: ServerProcess, snapshot: str, target: Path, keyfile: Path, check: int = 0) -> Done:
    return server.client("main", "restore", snapshot, "etc.tree", str(target), "--keyfile", str(keyfile), check=check)


def keys(server: ServerProcess) -> dict[str, Any]:
    return {row["fingerprint"]: row for row in server.admin("key", "list", "--output", "json").json()}


def test_s7_an_unregistered_key_is_refused_before_data_and_registering_cures(
    server: ServerProcess, tree: Path, tmp_path: Path
) -> None:
    file = tmp_path / "web01.key"
    fingerprint = key(server, file)
    before = server.admin("datastore", "stats", "main", "-o", "json").json()["chunks"]
    refused = server.client("main", "backup", f"etc.tree:{tree}", "--keyfile", str(file), check=3)
    assert f"encryption key not registered: {fingerprint}" in refused.err
    assert "ironcore-backup key register" in refused.err
    failed = server.admin("task", "list", "-o", "json").json()[0]
    assert (failed["state"], failed["message"]) == ("FAILED", f"encryption key not registered: {fingerprint}")
    assert fingerprint not in keys(server)
    assert server.admin("datastore", "stats", "main", "-o", "json").json()["chunks"] == before
    assert server.client("main", "snapshot", "list", "-o", "json").json() == []

    elsewhere = ("key", "register", str(file.with_suffix(".pub")), "--datastore", "main", "--namespace", "other")
    server.admin(*elsewhere)
    backup(server, tree, "s7", file, check=3)
    server.admin("key", "register", str(file.with_suffix(".pub")), "--datastore", "main")
    assert [scope["namespace"] for scope in keys(server)[fingerprint]["scopes"]] == ["other", ""]
    done = backup(server, tree, "s7", file).json()
    restore(server, done["snapshot"], tmp_path / "back", file)
    assert tree_differences(str(tree), str(tmp_path / "back")) == []


def test_s7_where_encryption_is_demanded_nothing_else_is_taken(
    server: ServerProcess, tree: Path, tmp_path: Path
) -> None:
    file = tmp_path / "vault.key"
    key(server, file)
    server.admin("key", "register", str(file.with_suffix(".pub")), "--datastore", "main", "--namespace", "vault")
    server.admin("key", "policy", "set", "main", "--namespace", "vault", "--require")
    command = ("backup", f"etc.tree:{tree}", "--backup-id", "v", "--ns", "vault")
    refused = server.client("main", *command, check=3)
    assert "encryption required: datastore main, namespace vault, takes encrypted snapshots only" in refused.err
    server.client("main", *command, "--keyfile", str(file))


def test_s11_a_wrong_key_is_told_both_fingerprints_and_nothing_else(
    server: ServerProcess, tree: Path, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right.key", tmp_path / "wrong.key"
    wanted, offered = key(server, right), key(server, wrong)
    server.admin("key", "register", str(right.with_suffix(".pub")))
    snapshot = backup(server, tree, "s11", right).json()["snapshot"]
    refused = restore(server, snapshot, tmp_path / "back", wrong, check=3)
    assert f"fingerprint mismatch: the data wants key {wanted}, offered was {offered}" in refused.err
    assert "hosts" not in refused.out + refused.err
    assert not (tmp_path / "back").exists()
    shown = server.client("main", "key", "show", str(right), "-o", "json").json()
    assert shown["fingerprint"] == wanted  # how the right file among several is found
    restore(server, snapshot, tmp_path / "back", right)
    assert tree_differences(str(tree), str(tmp_path / "back")) == []


def test_s26_both_keys_serve_until_the_old_one_is_retired(server: ServerProcess, tree: Path, tmp_path: Path) -> None:
    old_file, new_file = tmp_path / "old.key", tmp_path / "new.key"
    old, new = key(server, old_file), key(server, new_file)
    server.admin("key", "register", str(old_file.with_suffix(".pub")), "--datastore", "main")
    first = backup(server, tree, "s26", old_file).json()["snapshot"]

    rotated = server.admin("key", "rotate", old[:23], str(new_file.with_suffix(".pub")))
    assert "the first backup of 1 group with the new key reads and sends everything, 195" in rotated.out
    assert keys(server)[old]["state"] == "replaced"
    assert keys(server)[old]["replaced_by"] == new
    second = backup(server, tree, "s26", new_file).json()
    assert second["chunks_sent"] > 0  # nothing is shared between keys
    third = backup(server, tree, "s26", old_file).json()["snapshot"]  # of a host that has not got the new one yet
    last = backup(server, tree, "s26", new_file).json()["snapshot"]
    for number, (snapshot, file) in enumerate(
        ((first, old_file), (second["snapshot"], new_file), (third, old_file), (last, new_file))
    ):
        restore(server, snapshot, tmp_path / str(number), file)
        assert tree_differences(str(tree), str(tmp_path / str(number))) == []

    refused = server.admin("key", "retire", old[:23], check=3)
    assert f"key {old} is not retired: 2 snapshots need it (main:{first}, main:{third})" in refused.err
    server.admin("snapshot", "forget", "main", third)  # to the bin: it may come back
    binned = f"2 snapshots need it (main:{first}, main:{third} (in the bin))"
    assert binned in server.admin("key", "retire", old[:23], check=3).err
    server.admin("bin", "empty", "main", third)
    assert f"1 snapshot needs it (main:{first})" in server.admin("key", "retire", old[:23], check=3).err
    server.admin("key", "retire", old[:23], "--force")
    assert f"encryption key not registered: {old}" in backup(server, tree, "s26", old_file, check=3).err
    restore(server, first, tmp_path / "still", old_file)  # what was made with it stays readable
    backup(server, tree, "s26", new_file)
