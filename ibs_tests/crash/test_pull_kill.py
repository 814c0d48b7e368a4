"""SIGKILL of either server at random moments of a copy between them, round after round.

Nothing half is ever visible; the next run fetches what is not here yet and nothing else; in the end both sides are
equal. Rounds are IBS_CRASH_ROUNDS (6 by default, at most 24); IBS_CRASH_SEED replays a run.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs_tests.support.agents import LineProcess, line_to
from ibs_tests.support.programs import start_server
from ibs_tests.support.storecheck import examine, index_ids

ROUNDS = min(int(os.environ.get("IBS_CRASH_ROUNDS", "6")), 24)
SEED = int(os.environ.get("IBS_CRASH_SEED", "20261122"))
KILLS_MAX = 3
"""In one copy, before it may end."""
MIB = 1 << 20
SPAN_SECONDS = (0.3, 2.0)
"""In the middle of what one copy takes on the line."""
RATE = 16 * MIB


class Sites:
    """`here` pulls from `there` over a slow line; both are killed and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng = folder, random.Random(SEED)
        self.tree, self.main, self.replica = folder / "tree", folder / "main", folder / "replica"
        self.tree.mkdir()
        self.here, self.there = start_server(folder / "here"), start_server(folder / "there")

    def close(self) -> None:
        for server in (self.here, self.there):
            if server.process.poll() is None:
                server.kill()

    def connect(self, line: LineProcess) -> None:
        self.here.admin("datastore", "create", "main", "--path", str(self.main))
        self.there.admin("datastore", "create", "replica", "--path", str(self.replica))
        self.there.admin("user", "create", "far@ibs")
        made = self.there.admin("token", "create", "far@ibs!t", "--output", "json").json()
        for who in ("far@ibs", "far@ibs!t"):
            self.there.admin("acl", "grant", "/datastore/replica", "Datastore.Reader", who)
        (self.folder / "secret").write_text(made["secret"])
        self.here.admin(
            *("remote", "create", "--name", "far", "--host", "127.0.0.1", "--port", line.address.rpartition(":")[2]),
            *("--auth-id", "far@ibs!t", "--fingerprint", str(self.there.facts["fingerprint"])),
            *("--secret-file", str(self.folder / "secret")),
        )

    def new_snapshot(self) -> str:
        """Over there: some files anew, the others as before."""
        for number in self.rng.sample(range(24), 16):
            (self.tree / f"f{number}").write_bytes(self.rng.randbytes(2 * MIB))
        backup = ("backup", f"t.tree:{self.tree}", "--backup-id", "far", "--output", "json")
        return str(self.there.client("replica", *backup).json()["snapshot"])

    def pull(self, *more: str, check: int | None = 0) -> str:
        wish = ("sync", "pull", "--remote", "far", "--source", "replica", "--store", "main")
        done = self.here.admin(*wish, *more, check=check)
        return done.out + done.err

    def killed_pull(self, line: LineProcess, *, here: bool, there: bool) -> None:
        """A copy in which one side or both die."""
        self.pull("--detach")
        time.sleep(self.rng.uniform(*SPAN_SECONDS))
        if there:
            self.there.kill()
        if here:
            self.here.kill()
        if there:
            self.there = start_server(self.folder / "there")
            line.lead_to(self.there)
        if here:
            self.here = start_server(self.folder / "here")
        else:
            self.quiet()

    def quiet(self) -> None:
        """Wait until no copy is under way here: it gives up on the server that died, or goes on with it."""
        deadline = time.monotonic() + 60
        while self.here.admin("task", "list", "--type", "sync", "--state", "running", "--output", "json").json():
            assert time.monotonic() < deadline, "the copy hangs on a server that died"
            time.sleep(0.1)

    def chunks_here(self) -> set[str]:
        """Ids of the chunk files on the disk, wherever they wait."""
        files = (path for path in (self.main / "chunks").rglob("*") if path.is_file())
        return {path.name for path in files if re.fullmatch(r"[0-9a-f]{64}", path.name)}

    def visible(self) -> set[str]:
        return {str(path.parent.relative_to(self.main / "ns")) for path in (self.main / "ns").rglob("manifest.json")}


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_killed_at_random_points_the_rest_is_fetched_and_nothing_twice(sites: Sites, tmp_path: Path) -> None:
    with line_to(sites.there, tmp_path, back_per_second=RATE) as line:
        sites.connect(line)
        rounds, saved, done = 0, 0, set[str]()
        while rounds < ROUNDS:
            snapshot = sites.new_snapshot()
            wanted = index_ids(sites.replica / "ns" / snapshot / "t.tree.idx")
            missing = wanted - sites.chunks_here()
            for _ in range(sites.rng.randrange(1, KILLS_MAX + 1)):
                here, there = ((True, False), (False, True), (True, True))[rounds % 3]
                sites.killed_pull(line, here=here, there=there)
                rounds += 1
                assert sites.visible() <= done | {snapshot}, "what is visible is whole, or it is not visible"
            before = sites.chunks_here()
            if snapshot not in sites.visible():
                said = sites.pull()
                (fetched,) = map(int, re.findall(r"here already; (\d+) chunks", said))
                survived = len(wanted & before)
                assert fetched <= len(wanted) - survived, f"{fetched} fetched, {survived} were here (seed {SEED})"
                saved += len(missing & before)
            done.add(snapshot)
            assert sites.visible() == done
        assert saved or rounds < 6, "no copy was met in its middle: the rounds prove little"
    assert "OK" in sites.here.admin("verify", "start", "main", "--verify-window-days", "0").out
    newest = max(done)
    sites.here.client("main", "restore", newest, "t.tree", str(tmp_path / "back"))
    subprocess.run(["diff", "-r", str(sites.tree), str(tmp_path / "back")], check=True)
    sites.here.admin("datastore", "cleanup", "main")
    assert sites.here.stop() == 0
    found = examine(sites.main)
    assert set(found.snapshots) == done
    assert found.clean, found
