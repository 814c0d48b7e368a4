"""Nothing readable leaves a host that has a key, and nothing comes back without it. With the real programs."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs.core.keys import DataKeys
from ibs_tests.support.agents import joined
from ibs_tests.support.programs import Done, ServerProcess, finish, running_server
from ibs_tests.support.tap import found, found_below
from ibs_tests.support.treecmp import tree_differences


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("keys")
    with running_server(folder) as running:
        for store in ("coded", "clear"):
            running.admin("datastore", "create", store, "--path", str(folder / store))
        yield running


def new_key(server: ServerProcess, path: Path, *options: str, register: bool = True) -> str:
    """Make a keyfile without a passphrase, as the documentation says; its fingerprint."""
    made = server.client("coded", "key", "create", str(path), "--no-passphrase", *options, "-o", "json")
    public = path.with_suffix(".pub")
    public.write_text(server.client("coded", "key", "show", str(path), "--public").out)
    if register:
        server.admin("key", "register", str(public))
    return str(made.json()["fingerprint"])


def fingerprint_of(server: ServerProcess, keyfile: Path) -> str:
    return str(server.client("coded", "key", "show", str(keyfile), "-o", "json").json()["fingerprint"])


@pytest.fixture(scope="module")
def keyfile(server: ServerProcess) -> Path:
    path = server.folder / "web01.key"
    new_key(server, path)
    return path


@dataclass
class Planted:
    """A tree in which everything that may be told is marked: no marker occurs anywhere by chance."""

    folder: Path
    inside: dict[str, bytes]
    """What a readable archive tells."""
    outside: dict[str, bytes]
    """What is nobody's business even then."""


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    said = {what: f"planted-{what}-{secrets.token_hex(12)}" for what in ("file", "folder", "link", "lost", "xattr")}
    said |= {what: f"planted-{what}-{secrets.token_hex(12)}" for what in ("text", "source", "hidden")}
    folder = tmp_path / said["source"]
    (folder / said["folder"]).mkdir(parents=True)
    content = os.urandom(200_000) + said["text"].encode() + os.urandom(200_000)
    (folder / said["folder"] / said["file"]).write_bytes(content)
    (folder / "words").write_text(said["text"] * 1000)
    (folder / said["lost"]).symlink_to(f"/nowhere/{said['link']}")  # a warning that names it
    try:
        os.setxattr(folder / "words", "user.note", said["xattr"].encode())
    except OSError:
        del said["xattr"]
    outside = {what: said.pop(what).encode() for what in ("source", "hidden")}
    return Planted(folder, {what: name.encode() for what, name in said.items()}, outside)


class Host:
    """The client on a host whose line is tapped."""

    def __init__(self, server: ServerProcess, store: str, tapped: Path) -> None:
        self._server, self._store, self.tapped = server, store, tapped

    def __call__(self, *arguments: str, check: int | None = 0) -> Done:
        command = [sys.executable, "-m", "ibs_tests.support.tap", str(self.tapped), *arguments]
        return finish(command, self._server.client_environment(self._store), check)

    @property
    def sent(self) -> bytes:
        return self.tapped.read_bytes()


def disks(server: ServerProcess, store: str) -> tuple[Path, ...]:
    return (server.state, server.folder / "log", server.folder / store)


def test_nothing_readable_leaves_the_host(
    server: ServerProcess, keyfile: Path, planted: Planted, tmp_path: Path
) -> None:
    root = base64.b64decode(json.loads(keyfile.read_bytes())["root"])
    keys = DataKeys.from_root(root)
    secret = {"root": root, "id": keys.id_key, "chunks": keys.chunk_key_key, "signing": keys.signing_seed}
    markers = [*planted.inside.values(), *planted.outside.values(), *secret.values()]
    hidden = planted.outside["hidden"].decode()
    host, group = Host(server, "coded", tmp_path / "tapped"), f"leak{secrets.token_hex(4)}"
    with_key = ("--keyfile", str(keyfile))
    backup = ("backup", f"d.tree:{planted.folder}", "--backup-id", group, "--exclude", hidden, *with_key)

    told = host(*backup, check=4)
    assert planted.inside["lost"].decode() in told.err  # here it is told: this is the owner's own terminal
    (planted.folder / "words").write_text(planted.inside["text"].decode() * 2000)
    host(*backup, check=4)  # with a base
    host("snapshot", "files", f"host/{group}", "d.tree", planted.inside["folder"].decode(), *with_key)
    assert planted.inside["lost"].decode() in host("snapshot", "log", f"host/{group}", *with_key).out
    host("diff", f"host/{group}", "d.tree", "--path", str(planted.folder), *with_key)
    pattern = ("--pattern", f"**/{planted.inside['file'].decode()}")
    host("restore", f"host/{group}", "d.tree", str(tmp_path / "some"), *pattern, *with_key)
    host("restore", f"host/{group}", "d.tree", str(tmp_path / "back"), *with_key)
    assert tree_differences(str(planted.folder), str(tmp_path / "back")) == []
    server.admin("verify", "start", "coded", "--notification-mode", "always")

    assert found([group.encode(), b"d.tree"], host.sent) == {group.encode(), b"d.tree"}  # both are known by design
    assert found(markers, host.sent) == set()
    assert found_below(markers, disks(server, "coded")) == {}

    # The same search finds everything where nothing is encrypted, so it does search.
    clear = Host(server, "clear", tmp_path / "tapped in clear")
    clear("backup", f"d.tree:{planted.folder}", "--backup-id", group, check=4)
    readable = set(planted.inside.values())
    assert found(markers, clear.sent) >= readable
    assert set(found_below(readable, disks(server, "clear"))) == readable


def test_a_host_that_is_ordered_to_back_up_tells_nothing_either(
    server: ServerProcess, keyfile: Path, planted: Planted, tmp_path: Path
) -> None:
    name = f"agent{secrets.token_hex(4)}"
    host = joined(server, name, tmp_path / "host")
    order = ("backup", "run", "--store", "coded", "--host", name, "--path", f"d.tree:{planted.folder}", "-o", "json")
    host.config.write_text(f'paths = ["{tmp_path}"]\nkeyfile = "{keyfile}"\n')
    host.config.chmod(0o600)
    host.start()
    try:
        for _ in range(2):
            server.admin(*order, check=4)
    finally:
        host.kill()
    shown = server.client("coded", "snapshot", "show", f"host/{name}", "-o", "json").json()
    assert shown["archives"][0]["key_fingerprint"] == fingerprint_of(server, keyfile)
    # The server named the folder in its order; what is in it stays on the host.
    assert found_below(planted.inside.values(), disks(server, "coded")) == {}
    server.client("coded", "restore", f"host/{name}", "d.tree", str(tmp_path / "back"), "--keyfile", str(keyfile))
    assert tree_differences(str(planted.folder), str(tmp_path / "back")) == []


def test_without_the_key_there_are_only_words(
    server: ServerProcess, keyfile: Path, planted: Planted, tmp_path: Path
) -> None:
    group = f"words{secrets.token_hex(4)}"
    wanted = fingerprint_of(server, keyfile)
    other_file = tmp_path / "other.key"
    other = new_key(server, other_file)
    coded = ("backup", f"d.tree:{planted.folder}", "--backup-id", group, "--keyfile", str(keyfile))
    server.client("coded", *coded, check=4)

    target = tmp_path / "back"
    for command in (
        ("restore", f"host/{group}", "d.tree", str(target)),
        ("snapshot", "files", f"host/{group}", "d.tree"),
        ("snapshot", "log", f"host/{group}"),
        ("diff", f"host/{group}", "d.tree", "--path", str(planted.folder)),
    ):
        for offered, options in (("none", ()), (other, ("--keyfile", str(other_file)))):
            refused = server.client("coded", *command, *options, check=3)
            assert f"fingerprint mismatch: the data wants key {wanted}, offered was {offered}" in refused.err
            assert found(planted.inside.values(), (refused.out + refused.err).encode()) == set()
    assert not target.exists()


def test_what_was_encrypted_is_not_sent_in_clear_by_accident(
    server: ServerProcess, keyfile: Path, planted: Planted, tmp_path: Path
) -> None:
    host, group = Host(server, "coded", tmp_path / "tapped"), f"clear{secrets.token_hex(4)}"
    backup = ("backup", f"d.tree:{planted.folder}", "--backup-id", group)
    host(*backup, "--keyfile", str(keyfile), check=4)
    signing = tmp_path / "signing.key"
    new_key(server, signing, "--mode", "sign-only")
    for options in ((), ("--keyfile", "none"), ("--keyfile", str(signing))):
        refused = host(*backup, *options, check=3)
        assert "is encrypted with key" in refused.err
        assert "--no-encryption" in refused.err
    assert found(planted.inside.values(), host.sent) == set()
    assert len(server.client("coded", "snapshot", "list", f"host/{group}", "-o", "json").json()) == 1
    server.client("coded", *backup, "--no-encryption", check=4)
    server.client("coded", *backup, check=4)  # asked once, it is what the group is now


def test_sign_only_is_readable_by_all_and_trusted_by_those_with_the_key(
    server: ServerProcess, keyfile: Path, planted: Planted, tmp_path: Path
) -> None:
    group, signing = f"signed{secrets.token_hex(4)}", tmp_path / "signing.key"
    new_key(server, signing, "--mode", "sign-only")
    backup = ("backup", f"d.tree:{planted.folder}", "--backup-id", group, "--keyfile", str(signing))
    server.client("coded", *backup, check=4)
    for target, options in (("plain", ()), ("checked", ("--keyfile", str(signing)))):
        said = server.client("coded", "restore", f"host/{group}", "d.tree", str(tmp_path / target), *options).out
        assert ("signed by client" if options else "signed by a key that was not given here") in said
        assert tree_differences(str(planted.folder), str(tmp_path / target)) == []
    foreign = ("restore", f"host/{group}", "d.tree", str(tmp_path / "foreign"), "--keyfile", str(keyfile))
    assert "signed by another key" in server.client("coded", *foreign, check=3).err
    assert not (tmp_path / "foreign").exists()
