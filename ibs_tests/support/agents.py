"""Agents as real programs on hosts of their own folder, and the line to their server. For e2e tests."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from ibs.client.agent.identity import AgentStatus, load_status
from ibs_tests.support.programs import Done, ServerProcess, finish, module_command

SECONDS_MAX = 40.0


def until(what: Callable[[], Any], seconds_max: float = SECONDS_MAX) -> Any:
    """Look again and again until it is there; return it."""
    deadline = time.monotonic() + seconds_max
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


@dataclass
class LineProcess:
    """The line of one host. `address` stays the same wherever the server goes."""

    target: Path
    process: subprocess.Popen[bytes]
    address: str

    def lead_to(self, server: ServerProcess) -> None:
        self.target.write_text(server.facts["address"])

    def swallow(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def carry_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def line_to(
    server: ServerProcess, folder: Path, *, bytes_per_second: float = 1e12, back_per_second: float = 1e12
) -> Iterator[LineProcess]:
    """A line of that speed to the server and back, for the length of the block."""
    target = folder / "target"
    target.write_text(server.facts["address"])
    command = [sys.executable, "-m", "ibs_tests.support.relay", str(target), str(bytes_per_second)]
    command.append(str(back_per_second))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    with process.stdout:
        port = int(process.stdout.readline())
    try:
        yield LineProcess(target, process, f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@dataclass
class HostProcess:
    """A host: its folder, and its agent while that runs."""

    name: str
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: int = field(default=0)

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    def client(self, *arguments: str, check: int | None = 0, **more: str) -> Done:
        """Run a client command on this host."""
        return finish([*module_command("ironcore-backup-client"), *arguments], self.environment | more, check)

    def start(self) -> None:
        """Start the agent; it need not be connected yet when this returns."""
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*module_command("ironcore-backup-client"), "agent", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def status(self) -> AgentStatus:
        """What the agent says of itself."""
        said = load_status(self.folder / "agent")
        assert said is not None
        return said


def invited(server: ServerProcess, name: str, folder: Path, *options: str) -> tuple[HostProcess, str]:
    """A host that was invited, and its join token."""
    folder.mkdir(parents=True, exist_ok=True)
    token = server.admin("host", "invite", name, *options, "--output", "json").json()["token"]
    environment = server.environment | {
        "IBS_AGENT_DIR": str(folder / "agent"),
        "IBS_AGENT_CONFIG": str(folder / "agent.toml"),
        "IBS_FINGERPRINT": server.facts["fingerprint"],
    }
    return HostProcess(name, folder, environment), token


def joined(server: ServerProcess, name: str, folder: Path, address: str = "") -> HostProcess:
    """A host that has joined; its agent does not run yet, and lets nothing go."""
    host, token = invited(server, name, folder)
    place = address or server.facts["address"]
    host.client("agent", "join", place, "--name", name, IBS_JOIN_TOKEN=token)
    return host


def shown(server: ServerProcess, name: str) -> dict[str, Any]:
    """The host as the server sees it."""
    found: dict[str, Any] = ask(server, f"/hosts/{name}")
    return found


def task_of(server: ServerProcess, upid: str) -> dict[str, Any]:
    """The task as the server shows it."""
    found: dict[str, Any] = ask(server, f"/tasks/{quote(upid, safe='')}")
    return found


def ask(server: ServerProcess, path: str) -> Any:
    """GET from the API, as the local administrator: quicker than a command for looking again and again."""
    headers = {"Authorization": f"Bearer {server.token}"}
    answer = httpx.get(f"{server.url}/api/v1{path}", headers=headers, verify=False, trust_env=False, timeout=30)
    assert answer.is_success, answer.text
    return answer.json()
