"""Two real servers: what one has is brought by the other, as it is; killed in between, only the rest is fetched."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs_tests.support.programs import ServerProcess, running_server, start_server


@dataclass
class Sites:
    """`there` has the backups; `here` pulls them by the remote `site-b`."""

    here: ServerProcess
    there: ServerProcess
    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def pull(self, *more: str, check: int | None = 0) -> str:
        done = self.here.admin(
            "sync", "pull", "--remote", "site-b", "--source", "replica", "--store", "main", *more, check=check
        )
        return done.out + done.err

    def back_up(self, *more: str, group: str = "web01") -> str:
        done = self.there.client(
            "replica", "backup", f"t.tree:{self.tree}", "--backup-id", group, *more, "--output", "json"
        )
        return str(done.json()["snapshot"])

    def restored(self, snapshot: str, target: str, *more: str) -> None:
        back = self.folder / target
        self.here.client("main", "restore", snapshot, "t.tree", str(back), *more)
        subprocess.run(["diff", "-r", "--no-dereference", str(self.tree), str(back)], check=True)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("pull")
    with running_server(folder / "here") as here, running_server(folder / "there") as there:
        here.admin("datastore", "create", "main", "--path", str(folder / "main"))
        there.admin("datastore", "create", "replica", "--path", str(folder / "replica"))
        there.admin("user", "create", "sync@ibs")
        made = there.admin("token", "create", "sync@ibs!here", "--output", "json").json()
        (folder / "secret").write_text(made["secret"])
        here.admin(
            *("remote", "create", "--name", "site-b", "--host", "127.0.0.1"),
            *("--port", str(there.facts["address"]).rpartition(":")[2], "--auth-id", "sync@ibs!here"),
            *("--fingerprint", str(there.facts["fingerprint"]), "--secret-file", str(folder / "secret")),
        )
        (folder / "tree").mkdir()
        for number in range(30):
            (folder / "tree" / f"f{number}").write_bytes(os.urandom(700_000))
        yield Sites(here, there, folder)


def fetched(said: str) -> int:
    """Chunks that a run fetched."""
    (count,) = re.findall(r"here already; (\d+) chunks", said)
    return int(count)


def test_refused_until_granted_then_brought_as_it_is(sites: Sites) -> None:
    first = sites.back_up()
    refused = sites.pull(check=None)
    assert "not authorised: sync@ibs!here" in refused
    assert "/datastore/replica" in refused
    assert "that is what remote site-b says" in refused
    for who in ("sync@ibs", "sync@ibs!here"):
        sites.there.admin("acl", "grant", "/datastore/replica", "Datastore.Reader", who)
    said = sites.pull()
    assert "1 snapshots brought" in said
    assert fetched(said) > 0
    sites.restored(first, "back")
    for name in ("manifest.json", "manifest.sig", "t.tree.idx"):
        copies = [next((sites.folder / store).rglob(name)).read_bytes() for store in ("main", "replica")]
        assert copies[0] == copies[1], name
    assert "OK" in sites.here.admin("verify", "start", "main", "--verify-window-days", "0").out
    row = sites.here.client("main", "snapshot", "list", "--output", "json").json()[0]
    assert row["brought"]
    again = sites.pull()
    assert "0 snapshots brought, 1 were here already" in again
    assert fetched(again) == 0


def test_only_what_changed_is_fetched(sites: Sites) -> None:
    (sites.tree / "f0").write_bytes(os.urandom(700_000))
    second = sites.back_up()
    said = sites.pull("--group", "host/web*", "--newest", "1")
    assert "1 snapshots brought" in said
    assert 0 < fetched(said) < 10
    sites.restored(second, "back2")
    assert "0 snapshots are missing" not in said
    assert "0 snapshots brought" in sites.pull("--group", "vm/*")


def test_encrypted_ones_need_no_key_here(sites: Sites) -> None:
    key = str(sites.folder / "k")
    sites.there.client("replica", "key", "create", key, "--no-passphrase")
    public = sites.folder / "k.pub"
    public.write_text(sites.there.client("replica", "key", "show", "--public", key).out)
    sites.there.admin("key", "register", str(public))
    snapshot = sites.back_up("--keyfile", key, group="secret")
    assert "1 snapshots brought" in sites.pull()
    sites.restored(snapshot, "back3", "--keyfile", key)
    refused = sites.here.client("main", "restore", snapshot, "t.tree", str(sites.folder / "no"), check=3)
    assert "fingerprint mismatch" in refused.err
    assert "OK" in sites.here.admin("verify", "start", "main", "--verify-window-days", "0").out


def test_what_was_forgotten_here_is_not_brought_again_unasked(sites: Sites) -> None:
    snapshot = sites.back_up(group="gone")
    only = ("--group", "host/gone")
    assert "1 snapshots brought" in sites.pull(*only)
    sites.here.client("main", "snapshot", "forget", snapshot)
    said = sites.pull(*only)
    assert "0 snapshots brought" in said
    assert "1 were forgotten here and stay in the bin" in said
    assert "1 snapshots brought" in sites.pull(*only, "--again")
    listed = sites.here.client("main", "snapshot", "list", "host/gone", "--output", "json").json()
    assert [row["snapshot"] for row in listed] == [snapshot]


def test_a_lock_there_holds_here_also_when_it_was_set_later(sites: Sites) -> None:
    first, second = (sites.back_up(group="locked") for _ in range(2))
    sites.there.admin("snapshot", "lock", "replica", first, "--until", "2d")
    only = ("--group", "host/locked")
    assert f"{first} is locked until" in sites.pull(*only)
    assert "is locked until" not in sites.pull(*only), "it is already"
    sites.there.admin("snapshot", "lock", "replica", second, "--until", "3d")
    assert f"{second} is locked until" in sites.pull(*only)
    for snapshot in (first, second):
        refused = sites.here.client("main", "snapshot", "forget", snapshot, check=None)
        assert "is locked until" in refused.err


def test_a_job_brings_by_itself_and_clears_away_what_vanished(sites: Sites) -> None:
    names = [sites.back_up(group="jobs") for _ in range(3)]
    sites.there.client("replica", "snapshot", "protect", names[0])
    job = ("--name", "nightly")
    sites.here.admin(
        *("sync", "create", *job, "--remote", "site-b", "--source", "replica", "--store", "main"),
        *("--group", "host/jobs", "--schedule", "*:*:0/2", "--remove-vanished", "--bandwidth", "1GiB/s"),
    )

    def listed() -> set[str]:
        rows = sites.here.client("main", "snapshot", "list", "host/jobs", "--output", "json", check=None)
        return {row["snapshot"] for row in rows.json()} if rows.out.strip().startswith("[") else set()

    deadline = time.monotonic() + 60
    while listed() != set(names):
        assert time.monotonic() < deadline, "it does not run by itself"
        time.sleep(0.5)
    while sites.here.admin("sync", "status", *job, "--output", "json").json()["state"] != "OK":
        assert time.monotonic() < deadline, "it does not end"
    sites.here.admin("sync", "update", *job, "--disable")
    status = sites.here.admin("sync", "status", *job, "--output", "json").json()
    assert status["free_bytes_here"] > 0
    assert status["free_bytes_remote"] > 0
    assert not status["last_error"]
    sites.there.client("replica", "snapshot", "unprotect", names[0])
    for name in names:
        sites.there.client("replica", "snapshot", "forget", name)
    said = sites.here.admin("sync", "run", *job)
    assert f"{names[0]} vanished at the source and stays: protected" in said.out + said.err
    assert f"{names[1]} vanished at the source: moved to the bin" in said.out + said.err
    assert f"{names[2]} vanished at the source and stays: the last good one of its group" in said.out + said.err
    assert listed() == {names[0], names[2]}
    sites.here.admin("sync", "remove", *job)
    assert listed() == {names[0], names[2]}


def test_namespaces_below_come_along_as_deep_as_is_said(sites: Sites) -> None:
    small = sites.folder / "small"
    small.mkdir()
    (small / "f").write_bytes(b"in a namespace")
    for space in ("deep", "deep/a", "deep/a/b"):
        sites.there.admin("namespace", "create", "replica", space)
        sites.there.client("replica", "backup", f"t.tree:{small}", "--backup-id", "ns", "--namespace", space)

    def here() -> set[str]:
        rows = sites.here.admin("namespace", "list", "main", "--output", "json").json()
        return {row["namespace"] for row in rows if row["snapshots"] and row["namespace"].startswith("deep")}

    assert "1 snapshots brought" in sites.pull("--ns", "deep", "--depth", "0")
    assert here() == {"deep"}
    said = sites.pull("--ns", "deep", "--depth", "1")
    assert "1 snapshots brought, 1 were here already" in said
    assert here() == {"deep", "deep/a"}
    assert "1 snapshots brought, 2 were here already" in sites.pull("--ns", "deep", "--depth", "8")
    assert here() == {"deep", "deep/a", "deep/a/b"}


def test_killed_in_between_the_rest_is_brought(sites: Sites) -> None:
    for number in range(200):
        (sites.tree / f"g{number}").write_bytes(os.urandom(700_000))
    snapshot = sites.back_up()
    arrivals = sites.folder / "main" / "chunks" / "incoming"
    sites.here.admin(*("sync", "pull", "--remote", "site-b", "--source", "replica", "--store", "main", "--detach"))
    deadline = time.monotonic() + 60
    while sum(1 for path in arrivals.rglob("*") if path.is_file()) < 3:
        assert time.monotonic() < deadline, "nothing arrives"
    sites.here.process.kill()
    sites.here.process.wait()
    assert not list((sites.folder / "main" / "ns").rglob(snapshot.rpartition("/")[2])), "nothing half is visible"
    sites.here = start_server(sites.folder / "here")
    said = sites.pull()
    assert "1 snapshots brought" in said
    sites.restored(snapshot, "back4")
    sites.here.process.terminate()
    sites.here.process.wait()


def test_a_bad_chunk_there_is_named_and_nothing_is_half_visible(sites: Sites) -> None:
    with running_server(sites.folder / "here") as here:
        sites.here = here
        before = {path for path in (sites.folder / "replica" / "chunks").rglob("*") if path.is_file()}
        (sites.tree / "bad").write_bytes(os.urandom(700_000))
        snapshot = sites.back_up(group="bad")
        new = sorted({path for path in (sites.folder / "replica" / "chunks").rglob("*") if path.is_file()} - before)
        victim = max(new, key=lambda path: path.stat().st_size)
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
        said = sites.pull(check=None)
        assert f"{snapshot} was not brought" in said
        assert victim.name in said
        listed = here.client("main", "snapshot", "list", "host/bad", "--output", "json", check=None)
        assert snapshot not in listed.out
