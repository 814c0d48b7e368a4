"""A host with a key and a real server: nothing readable arrives, and only the key brings it back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, running_server

NAME = "zq-planted-name-7f3a"
CONTENT = b"zq planted content 91bd "


@dataclass
class Host:
    """A server, a tree on a host, and a key of that host that is not registered yet."""

    server: ServerProcess
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def key(self) -> str:
        return str(self.folder / "web01.key")

    def public(self, key: str) -> str:
        file = Path(f"{key}.pub")
        file.write_text(self.server.client("main", "key", "show", "--public", key).out)
        return str(file)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("keys")
    with running_server(folder / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        made = Host(server, folder)
        (made.tree / f"{NAME}.d").mkdir(parents=True)
        for number in range(5):
            (made.tree / f"{NAME}.d" / f"{NAME}-{number}").write_bytes(CONTENT * 4000 + os.urandom(64 * number))
        os.symlink(f"{NAME}-target", made.tree / f"{NAME}-link")  # dangling: a warning that carries a name
        server.client("main", "key", "create", made.key, "--no-passphrase", "--comment", "web01")
        yield made


def back_up(host: Host, *more: str, group: str = "web01", check: int = 4) -> str:
    done = host.server.client("main", "backup", f"t.tree:{host.tree}", "--backup-id", group, *more, check=check)
    return done.out + done.err


def files_with(folder: Path, marker: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and marker in path.read_bytes()]


def test_unregistered_registered_and_nothing_readable_arrives(host: Host) -> None:
    fingerprint = host.server.client("main", "key", "show", host.key, "--output", "json").json()["fingerprint"]
    refused = back_up(host, "--keyfile", host.key, check=3)
    assert f"encryption key not registered: {fingerprint}" in refused
    assert "ironcore-backup key register" in refused
    assert host.server.client("main", "snapshot", "list", "--output", "json").json() == []
    host.server.admin("key", "register", host.public(host.key), "--datastore", "main")
    assert fingerprint[:23] in host.server.admin("key", "list").out
    assert not host.server.admin("key", "list", "--output", "json").json()[0].get("last_seen")
    back_up(host, "--keyfile", host.key)
    assert "LAST SEEN" in host.server.admin("key", "list").out
    assert host.server.admin("key", "list", "--output", "json").json()[0]["last_seen"]
    for place in (host.folder / "store", host.folder / "server"):
        for marker in (NAME.encode(), CONTENT[:18]):
            assert files_with(place, marker) == [], "something readable left the host"
    assert files_with(host.tree, CONTENT[:18]), "the search finds what is there"
    back = host.folder / "back"
    host.server.client("main", "restore", "host/web01", "t.tree", str(back), "--keyfile", host.key)
    subprocess.run(["diff", "-r", "--no-dereference", str(host.tree), str(back)], check=True)
    listed = host.server.client("main", "snapshot", "files", "host/web01", "t.tree", "-r", "--keyfile", host.key).out
    assert f"{NAME}-4" in listed
    assert "1 snapshot of datastore main" in host.server.admin("key", "show", fingerprint).out
    again = back_up(host, "--keyfile", host.key)
    assert "unchanged and not read" in again


def test_without_the_key_and_with_another(host: Host) -> None:
    other = str(host.folder / "other.key")
    host.server.client("main", "key", "create", other, "--no-passphrase")
    for arguments, offered in (((), "offered was none"), (("--keyfile", other), "offered was")):
        target = host.folder / "wrong"
        refused = host.server.client("main", "restore", "host/web01", "t.tree", str(target), *arguments, check=3).err
        assert "fingerprint mismatch" in refused
        assert offered in refused
        assert NAME not in refused
        assert not target.exists()
    clear = back_up(host, check=3)
    assert "is encrypted with key" in clear
    assert "--no-encryption" in clear


def test_rotation_and_policy(host: Host) -> None:
    old = host.server.client("main", "key", "show", host.key, "--output", "json").json()["fingerprint"]
    new = str(host.folder / "web01-2027.key")
    host.server.client("main", "key", "create", new, "--no-passphrase", "--comment", "web01 2027")
    assert "is still taken" in host.server.admin("key", "rotate", old, host.public(new)).out
    back_up(host, "--keyfile", host.key)
    back_up(host, "--keyfile", new)
    assert "is not retired: " in host.server.admin("key", "retire", old, check=3).err
    assert "can be read with this key only" in host.server.admin("key", "retire", old, "--force").out
    assert "encryption key not registered" in back_up(host, "--keyfile", host.key, check=3)
    rows = host.server.client("main", "snapshot", "list", "host/web01", "--output", "json").json()
    for snapshot, key in ((rows[0]["snapshot"], host.key), (rows[-1]["snapshot"], new)):
        target = host.folder / f"back-{Path(key).name}"
        host.server.client("main", "restore", snapshot, "t.tree", str(target), "--keyfile", key)
        subprocess.run(["diff", "-r", "--no-dereference", str(host.tree), str(target)], check=True)
    host.server.admin("key", "policy", "set", "main", "--require")
    assert "encryption required: datastore main" in back_up(host, group="plain", check=3)
    host.server.admin("key", "policy", "unset", "main")
    back_up(host, group="plain")


def test_signed_and_readable(host: Host) -> None:
    key = str(host.folder / "sign.key")
    host.server.client("main", "key", "create", key, "--no-passphrase", "--mode", "sign-only")
    assert "encryption key not registered" in back_up(host, "--keyfile", key, group="signed", check=3)
    host.server.admin("key", "register", host.public(key))
    back_up(host, "--keyfile", key, group="signed")
    assert files_with(host.folder / "store", b"t.tree")
    for more in ((), ("--keyfile", key)):
        target = host.folder / f"signed-{len(more)}"
        shown = host.server.client("main", "restore", "host/signed", "t.tree", str(target), *more).out
        assert ("signed by client" in shown) == bool(more)
        subprocess.run(["diff", "-r", "--no-dereference", str(host.tree), str(target)], check=True)
    host.server.client("main", "backup", f"t.tree:{host.tree}", "--backup-id", "signed", check=4)
    replaced = host.server.client(
        "main", "restore", "host/signed", "t.tree", str(host.folder / "x"), "--keyfile", key, check=3
    )
    assert "signed by the server, not by the key in use" in replaced.err
