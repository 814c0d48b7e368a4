"""The units of the roles, without systemd: its sockets are ours, the rest is real."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ibs_tests.support.programs import ServerProcess, module_command, running_server

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")
MEMORY_BYTES_MAX = 20 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("mirrors")
    with running_server(folder / "server", config="fault_injection = true\n") as running:
        yield running


@dataclass
class Unit:
    """A running `service watch`, and what it told systemd and stdout."""

    process: subprocess.Popen[bytes]
    notified: socket.socket
    out: Path

    def told(self) -> str:
        self.notified.settimeout(20)
        return self.notified.recv(4096).decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@contextmanager
def unit(server: ServerProcess, folder: Path, role: str) -> Iterator[Unit]:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (folder / "out").open("wb") as out:
        notified.bind(str(folder / "notify"))
        process = subprocess.Popen(
            [*module_command("ironcore-backup"), "service", "watch", role, "--state-dir", str(server.state)],
            env=server.environment | {"NOTIFY_SOCKET": str(folder / "notify")},
            stdin=subprocess.DEVNULL,
            stdout=out,
        )
        try:
            yield Unit(process, notified, folder / "out")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def service(server: ServerProcess, role: str) -> dict[str, Any]:
    rows = server.admin("service", "list", "--output", "json").json()
    return next(row for row in rows if row["role"] == role)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_unit_shows_the_role_its_lines_and_its_restarts(server: ServerProcess, tmp_path: Path) -> None:
    with unit(server, tmp_path / "1", "verifier") as shown:
        assert shown.told().startswith("READY=1\nSTATUS=active (running) since 20")
        assert psutil.Process(shown.process.pid).memory_info().rss < MEMORY_BYTES_MAX
        before = service(server, "verifier")
        assert server.admin("service", "restart", "verifier").out.strip().endswith("it is active (running)")
        assert "1 restarts" in shown.told() + shown.told()
        wait_for(lambda: "restart asked for" in [line["event"] for line in shown.lines()])
        assert {line["role"] for line in shown.lines()} == {"verifier"}
        written = [json.loads(line) for line in (server.folder / "log" / "verifier.log").read_text().splitlines()]
        wait_for(lambda: shown.lines() == written[: len(shown.lines())])
        assert service(server, "verifier")["restarts"] == before["restarts"] + 1


def test_restarting_the_unit_restarts_the_role_and_no_other(server: ServerProcess, tmp_path: Path) -> None:
    before = {role: service(server, role)["restarts"] for role in ("sync", "gc")}
    with unit(server, tmp_path / "1", "sync") as first:
        assert first.told().startswith("READY=1")
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
    assert service(server, "sync")["restarts"] == before["sync"]
    with unit(server, tmp_path / "2", "sync") as second:
        assert second.told().startswith("READY=1")
        wait_for(lambda: service(server, "sync")["restarts"] == before["sync"] + 1)
        second.process.kill()
    with unit(server, tmp_path / "3", "sync") as third:
        assert third.told().startswith("READY=1")
        assert service(server, "sync") == service(server, "sync") | {"restarts": before["sync"] + 1}
    assert service(server, "gc")["restarts"] == before["gc"]


def test_the_api_itself_can_be_restarted(server: ServerProcess) -> None:
    before = service(server, "api")["restarts"]
    done = server.admin("service", "restart", "api", "--output", "json").json()
    assert done["state"] == "active (running)"
    assert service(server, "api")["restarts"] == before + 1


def test_only_those_who_may_change_the_server_restart_a_role(server: ServerProcess) -> None:
    auditor = server.make_token("auditor", ("/", "Audit"))
    named = {
        "IBS_SERVER": server.facts["address"],
        "IBS_TOKEN": auditor,
        "IBS_FINGERPRINT": server.facts["fingerprint"],
    }
    refused = server.admin("service", "restart", "gc", "--server", server.facts["address"], check=3, **named)
    assert refused.err.startswith("error: not authorised")
    assert server.admin("service", "restart", "nobody", check=5).err.startswith("error: no service role nobody")


def test_every_unit_hears_the_servers_end(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as own:
        with unit(own, tmp_path / "gc", "gc") as shown:
            assert shown.told().startswith("READY=1")
            assert own.stop() == 0
            assert shown.process.wait(20) == 0
            assert "the server says goodbye" in shown.lines()[-1]["event"]
        assert not (own.state / "mirror.sock").exists()
    with running_server(tmp_path / "server") as own, unit(own, tmp_path / "gc2", "gc") as shown:
        assert shown.told().startswith("READY=1")
        own.kill()
        assert shown.process.wait(20) == 6
        assert shown.lines()[-1]["event"] == "the server is gone"
