"""What the documents promise about logs, of a real server: one schema, jq, logrotate, and a hurried end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, running_server, start_server

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")
SCHEMA = ["time", "role", "level", "event", "upid", "auth_id"]
LOGROTATE = Path(__file__).parents[2] / "contrib" / "logrotate" / "ironcore-backup"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("logs"), config="fault_injection = true\n") as running:
        yield running


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob(pattern)) for line in file.read_text().splitlines()]


def test_every_role_writes_the_one_schema(server: ServerProcess) -> None:
    folder = server.folder / "log"
    for role in ROLES:
        found = lines(folder, f"{role}.log")
        assert found
        for line in found:
            assert list(line)[:6] == SCHEMA
            assert line["role"] == role
            assert line["level"] in ("debug", "info", "warning", "error", "critical")
            assert datetime.fromisoformat(line["time"]).tzinfo is not None
        assert (folder / f"{role}.log").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_filters_all_of_them(server: ServerProcess) -> None:
    files = [str(server.folder / "log" / f"{role}.log") for role in ROLES]
    command = ["jq", "-r", 'select(.event == "service is active (running)") | .role', *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(ROLES)


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate")
def test_logrotate_needs_no_signal_and_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    folder = server.folder / "log"
    rules = LOGROTATE.read_text().replace("/var/log/ironcore-backup", str(folder))
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "rules").chmod(0o644)
    headers = {"Authorization": f"Bearer {server.token}"}
    context = pinned_context(server.facts["fingerprint"])
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, verify=context, trust_env=False) as client:

        def restart() -> int:
            """One more line in gc.log, at least; the restarts so far."""
            before = client.post("/services/gc/restart").json()["restarts"]
            while True:
                (row,) = [row for row in client.get("/status").json()["services"] if row["role"] == "gc"]
                if row["restarts"] > before and row["state"] == "active (running)":
                    return int(row["restarts"])

        for _ in range(3):
            restart()
            command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(tmp_path / "rules")]
            # Twice within a second it finds its name taken, says so, and rotates nothing: no harm.
            subprocess.run(command, check=False, capture_output=True)
        count = restart()
    rotated = [*folder.glob("gc.log-*")]
    assert rotated
    asked = 0
    for file in [folder / "gc.log", *rotated]:
        text = subprocess.run(["zcat", "-f", str(file)], capture_output=True, text=True, check=True).stdout
        asked += sum(json.loads(line)["event"] == "restart asked for" for line in text.splitlines())
    assert asked == count
    assert (folder / "gc.log").stat().st_size > 0


def test_a_server_that_is_told_twice_to_stop_has_written_its_last_lines(tmp_path: Path) -> None:
    server = start_server(tmp_path / "server")
    deadline = time.monotonic() + 30
    while "listening on" not in (tmp_path / "server" / "server.out").read_text():  # it hears signals from then on
        assert time.monotonic() < deadline
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)
    status = server.process.wait(60)
    events = [line["event"] for line in lines(tmp_path / "server" / "log", "api.log")]
    # The orderly stop may have been quicker than the second signal.
    assert (status, events[-1]) == (130, "stopping at once") or status == 0
    assert any(event.startswith("the server stops (SIG") for event in events)
