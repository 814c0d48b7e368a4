"""A keyfile is lost, and the owner of the master key brings it back: from the server, or from a bare file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import Done, ServerProcess, running_server

WORD = {"IBS_MASTER_PASSPHRASE": "what lies in the safe"}


@dataclass
class Site:
    """A server, a tree, a master key, and a host's key that names it."""

    server: ServerProcess
    folder: Path

    def client(self, *command: str, check: int | None = 0, **variables: str) -> Done:
        return self.server.client("main", *command, check=check, **variables)

    @property
    def master(self) -> str:
        return str(self.folder / "master.key")

    @property
    def key(self) -> str:
        return str(self.folder / "web01.key")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("master")
    with running_server(folder / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        made = Site(server, folder)
        (folder / "tree").mkdir()
        (folder / "tree" / "file").write_text("nobody else reads this\n" * 1000)
        made.client("masterkey", "create", made.master, "--comment", "the safe", **WORD)
        public = folder / "master.pub"
        public.write_text(made.client("masterkey", "show", made.master, "--public").out)
        made.client("key", "create", made.key, "--no-passphrase", "--comment", "web01", "--master", str(public))
        half = folder / "web01.pub"
        half.write_text(made.client("key", "show", "--public", made.key).out)
        server.admin("key", "register", str(half), "--datastore", "main")
        source = f"t.tree:{folder / 'tree'}"
        made.client("backup", source, "--backup-id", "web01", "--keyfile", made.key)
        made.client("backup", source, "--backup-id", "clear", "--keyfile", "none")
        yield made


def shown(site: Site, key: str) -> dict[str, Any]:
    found: dict[str, Any] = site.client("key", "show", key, "--output", "json").json()
    return found


def test_a_lost_keyfile_comes_back_and_restores(site: Site, tmp_path: Path) -> None:
    again = str(tmp_path / "again.key")
    done = site.client(
        "masterkey",
        "recover",
        "host/web01",
        "--master",
        site.master,
        "--keyfile",
        again,
        **WORD,
        IBS_KEY_PASSPHRASE="a new word",
    )
    assert "a new word" not in done.out + done.err
    before, after = shown(site, site.key), shown(site, again)
    assert {name: after[name] for name in ("fingerprint", "mode", "comment", "master_key")} == {
        name: before[name] for name in ("fingerprint", "mode", "comment", "master_key")
    }
    assert (before["passphrase"], after["passphrase"]) == (False, True)
    target = tmp_path / "back"
    site.client("restore", "host/web01", "t.tree", str(target), "--keyfile", again, IBS_KEY_PASSPHRASE="a new word")
    subprocess.run(["diff", "-r", str(site.folder / "tree"), str(target)], check=True)


def test_from_the_bare_file_in_the_datastore_without_a_server(site: Site, tmp_path: Path) -> None:
    (blob,) = (site.folder / "store" / "ns").rglob("wrapped.key")
    stated = json.loads(blob.read_text())
    assert stated["master"] == shown(site, site.key)["master_key"]
    again = str(tmp_path / "again.key")
    done = site.client(
        "masterkey",
        "recover",
        "--wrapped",
        str(blob),
        "--master",
        site.master,
        "--keyfile",
        again,
        "--no-passphrase",
        **WORD,
        IBS_REPOSITORY="",
        IBS_SECRET="",
    )
    assert stated["key_fingerprint"] in done.out + done.err
    assert shown(site, again)["fingerprint"] == stated["key_fingerprint"]


def test_what_does_not_fit_is_told_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    again, other = tmp_path / "again.key", str(tmp_path / "other.master")
    site.client("masterkey", "create", other, **WORD)
    recover = ("masterkey", "recover", "host/web01", "--keyfile", str(again))
    with_master = ("masterkey", "recover", "--master", site.master, "--keyfile")
    wrong = site.client(*recover, "--master", other, check=3, **WORD)
    assert "is wrapped under master key" in wrong.err
    wrong = site.client(*recover, "--master", site.master, check=3, IBS_MASTER_PASSPHRASE="wrong")
    assert "does not open the master key" in wrong.err
    none = site.client(*with_master, str(again), "host/clear", check=None, **WORD)
    assert "carries no wrapped key" in none.err
    both = site.client(*recover, "--wrapped", site.master, "--master", site.master, check=2, **WORD)
    assert "name a snapshot, or a file" in both.err
    assert not again.exists()
    taken = site.client(*with_master, site.key, "host/web01", check=None, **WORD)
    assert "exists already" in taken.err


def test_a_key_that_was_made_before_gets_its_master_and_loses_it(site: Site, tmp_path: Path) -> None:
    key, public = str(tmp_path / "old.key"), str(site.folder / "master.pub")
    word = {"IBS_KEY_PASSPHRASE": "word"}
    site.client("key", "create", key, **word)
    assert "only a copy or a paper key" in site.client("key", "show", key).out
    wrong = site.client("key", "set-master", key, "--public", public, check=3, IBS_KEY_PASSPHRASE="wrong")
    assert "does not open the keyfile" in wrong.err
    done = site.client("key", "set-master", key, "--public", public, **word)
    fingerprint = shown(site, key)["master_key"]
    assert fingerprint in done.out
    site.client("key", "change-passphrase", key, **word, IBS_NEW_KEY_PASSPHRASE="new")
    assert shown(site, key)["master_key"] == fingerprint
    site.client("key", "set-master", key, "--none", IBS_KEY_PASSPHRASE="new")
    assert shown(site, key)["master_key"] == ""
    usage = site.client("key", "set-master", key, check=2)
    assert "or --none" in usage.err


def test_the_master_key_gets_another_passphrase(site: Site, tmp_path: Path) -> None:
    master, again = str(tmp_path / "m.key"), str(tmp_path / "again.key")
    Path(master).write_bytes(Path(site.master).read_bytes())
    site.client("masterkey", "change-passphrase", master, **WORD, IBS_NEW_MASTER_PASSPHRASE="new")
    recover = ("masterkey", "recover", "host/web01", "--keyfile", again, "--no-passphrase", "--master", master)
    site.client(*recover, check=3, **WORD)
    site.client(*recover, IBS_MASTER_PASSPHRASE="new")
    assert shown(site, again)["fingerprint"] == shown(site, site.key)["fingerprint"]
