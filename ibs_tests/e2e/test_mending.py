"""Two real servers: what is damaged here is fetched from there, and nothing else; what is sound is never touched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs_tests.support.programs import Done, ServerProcess, running_server, start_server

FILES = 12


@dataclass
class Sites:
    """`here` has the datastore `main`; `there` has `replica`, brought from `main` by the remote `home`.

    Backups are made here; `here` knows the other by the remote `site-b`.
    """

    here: ServerProcess
    there: ServerProcess
    folder: Path

    @property
    def main(self) -> Path:
        return self.folder / "main"

    def back_up(self, group: str, *more: str, check: int = 0) -> str:
        """A snapshot of a tree of its own, brought to the other site."""
        tree = self.folder / f"tree-{group}"
        tree.mkdir(exist_ok=True)
        for number in range(FILES):
            (tree / f"f{number}").write_bytes(os.urandom(600_000))
        backup = ("backup", f"t.tree:{tree}", "--backup-id", group, *more, "--output", "json")
        made = str(self.here.client("main", *backup, check=check).json()["snapshot"])
        pull = ("sync", "pull", "--remote", "home", "--source", "main", "--store", "replica")
        assert "could not be brought" not in self.there.admin(*pull).out
        return made

    def folder_of(self, snapshot: str) -> Path:
        return self.main / "ns" / snapshot

    def chunks_of(self, snapshot: str) -> list[Path]:
        """Its chunk files here, in the order of its index."""
        raw = (self.folder_of(snapshot) / "t.tree.idx").read_bytes()[256:]
        ids = [raw[at : at + 32].hex() for at in range(0, len(raw), 40)]
        return [next((self.main / "chunks" / one[:4]).glob(f"{one}*")) for one in ids]

    def verify(self, *more: str, check: int | None = 0) -> Done:
        return self.here.admin("verify", "start", "main", "--verify-window-days", "0", *more, check=check)

    def repair(self, *more: str, check: int | None = 0) -> Done:
        return self.here.admin("sync", "repair", "--name", "nightly", *more, check=check)

    def restored(self, snapshot: str, group: str, *more: str) -> None:
        back = self.folder / f"back-{group}"
        shutil.rmtree(back, ignore_errors=True)
        self.here.client("main", "restore", snapshot, "t.tree", str(back), *more)
        subprocess.run(["diff", "-r", "--no-dereference", str(self.folder / f"tree-{group}"), str(back)], check=True)

    def state(self, snapshot: str) -> str:
        """What the last verification said, in the list."""
        rows = self.here.client("main", "snapshot", "list", "--output", "json").json()
        return str(next(row["verify"] for row in rows if row["snapshot"] == snapshot))


def _remote(server: ServerProcess, name: str, other: ServerProcess, store: str, folder: Path) -> None:
    """`server` may read `store` of `other`, by the remote `name`."""
    other.admin("user", "create", "sync@ibs")
    made = other.admin("token", "create", "sync@ibs!far", "--output", "json").json()
    for who in ("sync@ibs", "sync@ibs!far"):
        other.admin("acl", "grant", f"/datastore/{store}", "Datastore.Reader", who)
    secret = folder / f"secret-{name}"
    secret.write_text(made["secret"])
    server.admin(
        *("remote", "create", "--name", name, "--host", "127.0.0.1", "--secret-file", str(secret)),
        *("--port", str(other.facts["address"]).rpartition(":")[2], "--auth-id", "sync@ibs!far"),
        *("--fingerprint", str(other.facts["fingerprint"])),
    )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("mending")
    with running_server(folder / "here") as here, running_server(folder / "there") as there:
        here.admin("datastore", "create", "main", "--path", str(folder / "main"))
        there.admin("datastore", "create", "replica", "--path", str(folder / "replica"))
        _remote(here, "site-b", there, "replica", folder)
        _remote(there, "home", here, "main", folder)
        job = ("sync", "create", "--name", "nightly", "--remote", "site-b", "--source", "replica", "--store", "main")
        here.admin(*job)
        yield Sites(here, there, folder)


def flip(path: Path) -> None:
    """One bit in the middle of a file is another."""
    path.chmod(0o600)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)


def test_verification_mends_from_a_replica_what_it_finds(sites: Sites) -> None:
    sound, hurt = sites.back_up("sound"), sites.back_up("hurt")
    chunks = sites.chunks_of(hurt)
    flip(chunks[1])
    chunks[2].unlink()
    whole = {path: path.stat().st_ino for path in sites.chunks_of(sound)}
    said = sites.verify("--repair-from", "site-b:replica")
    assert re.search(rf"{hurt}: fetched 2 chunks \([^)]*\) from site-b:replica", said.err + said.out), said
    assert f"{hurt}: it was damaged and is whole again" in said.err + said.out
    assert sites.state(hurt) == "OK"
    assert sites.verify().status == 0
    sites.restored(hurt, "hurt")
    assert {path: path.stat().st_ino for path in whole} == whole, "what is sound is not touched"


def test_without_a_replica_it_stays_damaged_and_says_so(sites: Sites) -> None:
    lonely = sites.back_up("lonely")
    chunk = sites.chunks_of(lonely)[0]
    name = chunk.name
    flip(chunk)
    there = next((sites.folder / "replica" / "chunks").glob(f"{name[:4]}/{name}"))
    kept = there.read_bytes()
    flip(there)
    said = sites.verify("--snapshot", lonely, "--repair-from", "site-b:replica", check=None)
    assert said.status != 0
    assert f"1 chunks are not whole there either, first {name}" in said.out + said.err
    assert sites.state(lonely) == "CORRUPT"
    for path in there.parent.glob(f"{name}*"):
        path.unlink()
    there.write_bytes(kept)
    sites.there.admin("datastore", "reindex", "replica")
    assert sites.there.admin("verify", "start", "replica", "--verify-window-days", "0").status == 0
    sites.verify("--snapshot", lonely, "--repair-from", "site-b:replica")
    sites.restored(lonely, "lonely")


def test_a_sync_job_mends_what_is_known_to_be_damaged(sites: Sites) -> None:
    hurt = sites.back_up("resync")
    flip(sites.chunks_of(hurt)[0])
    assert sites.verify(check=None).status != 0
    plain = sites.here.admin("sync", "run", "--name", "nightly")
    assert sites.state(hurt) == "CORRUPT", plain
    said = sites.here.admin(
        *("sync", "pull", "--remote", "site-b", "--source", "replica", "--store", "main", "--resync")
    )
    assert "1 that were damaged are whole again" in said.out + said.err
    assert sites.state(hurt) == "OK"
    sites.restored(hurt, "resync")


@pytest.mark.parametrize("file", ["manifest.json", "manifest.sig", "t.tree.idx"])
@pytest.mark.parametrize("how", ["flipped", "gone", "empty"])
def test_repair_brings_back_damaged_files(sites: Sites, file: str, how: str) -> None:
    group = f"file-{file.replace('.', '-')}-{how}"
    hurt = sites.back_up(group)
    sites.here.client("main", "snapshot", "notes", hurt, "do not lose this")
    path = sites.folder_of(hurt) / file
    whole = path.read_bytes()
    if how == "flipped":
        flip(path)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"")
    said = sites.repair()
    assert path.read_bytes() == whole, said
    anew = (file, how) == ("manifest.json", "gone")  # it was no snapshot any more, and was brought like a new one
    assert sites.state(hurt) == ("" if anew else "OK")
    sites.restored(hurt, group)
    assert sites.verify("--snapshot", hurt).status == 0
    if not anew:
        shown = sites.here.client("main", "snapshot", "show", hurt, "--output", "json").out
        assert "do not lose this" in shown


def test_repair_leaves_what_is_another_snapshot_alone(sites: Sites) -> None:
    hurt = sites.back_up("other")
    manifest = sites.folder_of(hurt) / "manifest.json"
    stated = json.loads(manifest.read_bytes())
    assert stated["snapshot"] == hurt
    flip(sites.chunks_of(hurt)[0])
    there = sites.folder / "replica" / "ns" / hurt
    shutil.rmtree(there)
    said = sites.repair(check=None)
    assert said.status != 0
    assert "site-b:replica does not have it" in said.out + said.err
    assert json.loads(manifest.read_bytes()) == stated


def test_repair_sets_the_index_right_so_that_nothing_is_sent_again(sites: Sites) -> None:
    group = "poison"
    first = sites.back_up(group)
    ids = [bytes.fromhex(path.name[:64]) for path in sites.chunks_of(first)]
    sites.here.stop()
    with contextlib.closing(sqlite3.connect(sites.main / ".ibs" / "chunks.db", isolation_level=None)) as db:
        for one in ids:
            db.execute("UPDATE chunks SET stored_bytes = stored_bytes + 1 WHERE id = ?", [one])
    sites.here = start_server(sites.folder / "here")
    try:
        said = sites.repair()
        log = said.out + said.err
        assert f"{len(ids)} corrected" in log, log
        again = sites.here.client(
            "main", "backup", f"t.tree:{sites.folder}/tree-{group}", "--backup-id", group, "--output", "json"
        ).json()
        assert again["new_chunks"] <= 1, again
    finally:
        sites.here.stop()
