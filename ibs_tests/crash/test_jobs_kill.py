"""Two hundred runs due in the same minute on four slots, the server killed in their midst: nothing lost, all told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import ServerProcess, running_server, start_server

JOBS = 200
PATIENCE_SECONDS = 240


def jobs_due(server: ServerProcess, tree: Path) -> None:
    """All due at the same second, soon; made through the API's own client in one process."""
    script = f"""
import datetime, trio
from ibs.cli.common import administrator
from ibs.wire.jobs import JobCreate, JobSpec, JobView
async def main():
    when = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=12)).strftime("%Y-%m-%d %H:%M:%S")
    async with administrator(None, None) as api:
        for n in range({JOBS}):
            spec = JobSpec(store="main", sources=["t.tree:{tree}"], backup_id=f"j{{n:03}}", schedule=when, retries=2)
            await api.post("/jobs", JobView, JobCreate(name=f"j{{n:03}}", spec=spec))
trio.run(main)
"""
    environment = dict(os.environ) | server.environment | {"IBS_STATE_DIR": str(server.state)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)


def tasks(server: ServerProcess) -> list[dict[str, Any]]:
    rows = server.admin("task", "list", "--type", "backup", "--limit", "1000", "--output", "json").json()
    return [row for row in rows if row["job"]]


def until(server: ServerProcess, what: Any) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not what(rows := tasks(server)):
        assert time.monotonic() < deadline, Counter(row["state"] for row in rows)
    return rows


@pytest.mark.slow
def test_every_due_run_happens_once_or_is_told_and_made_again(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("small")
    folder = tmp_path / "server"
    with running_server(folder) as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        jobs_due(server, tree)
        until(server, lambda rows: sum(row["state"] == "OK" for row in rows) >= 10)
        server.kill()
        before_start = start_server(folder)
        try:
            rows = until(before_start, lambda rows: sum(row["state"] == "OK" for row in rows) >= JOBS)
            shown = before_start.admin("snapshot", "list", "main", "--output", "json").json()
        finally:
            before_start.stop()
    done = Counter(row["job"] for row in rows if row["state"] == "OK")
    assert len(done) == JOBS
    states = Counter(row["state"] for row in rows)
    assert set(states) <= {"OK", "FAILED"}
    assert states["FAILED"] <= 4, "only what was in a slot"
    assert all(row["message"] == "the server stopped while it ran" for row in rows if row["state"] == "FAILED")
    groups = Counter(row["snapshot"].rpartition("/")[0] for row in shown)
    assert len(groups) == JOBS
    assert set(done.values()) == {1}, "none was made twice"
