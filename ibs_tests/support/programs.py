"""The two programs as subprocesses, and a real server with its own state folder. For e2e, crash and drill tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 60


@dataclass(frozen=True)
class Done:
    """A finished program."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def module_command(program: str) -> list[str]:
    """How to start one of our programs with this interpreter."""
    name = {"ironcore-backup": "main", "ironcore-backup-client": "client"}[program]
    return [sys.executable, "-c", f"import sys; from ibs.cli.start import {name}; sys.argv[0] = {program!r}; {name}()"]


def clean_environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a new user: nothing of ours set, own configuration folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IBS_", "XDG_"))}
    kept |= {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "xdg-state")}
    kept |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | more


@dataclass
class ServerProcess:
    """A running `ironcore-backup serve` below `folder`."""

    folder: Path
    process: subprocess.Popen[bytes]
    facts: dict[str, Any]
    token: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def url(self) -> str:
        return f"https://{self.facts['address']}"

    def admin(self, *arguments: str, check: int | None = 0, **environment: str) -> Done:
        """Run an administrator's command against this server."""
        command = [*module_command("ironcore-backup"), *arguments]
        return finish(command, self.environment | {"IBS_STATE_DIR": str(self.state)} | environment, check)

    def client_environment(self, store: str, credential: str | None = None) -> dict[str, str]:
        """What a client needs to reach `store`, as root@ibs's local token or as `AUTH-ID:SECRET`."""
        auth_id, _, secret = (credential or self.token).partition(":")
        return self.environment | {
            "IBS_REPOSITORY": f"{auth_id}@{self.facts['address']}:{store}",
            "IBS_SECRET": secret,
            "IBS_FINGERPRINT": self.facts["fingerprint"],
        }

    def client(
        self, store: str, *arguments: str, check: int | None = 0, credential: str | None = None, **environment: str
    ) -> Done:
        """Run a client command against a datastore of this server."""
        command = [*module_command("ironcore-backup-client"), *arguments]
        return finish(command, self.client_environment(store, credential) | environment, check)

    def start_client(self, store: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a client command and leave it running."""
        command = [*module_command("ironcore-backup-client"), *arguments]
        sink = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.client_environment(store), stdin=sink, stdout=sink, stderr=sink)

    def make_token(self, name: str, *grants: tuple[str, str]) -> str:
        """A user with one token and the given (path, role) grants on both; returns `AUTH-ID:SECRET`."""
        user = f"{name}@ibs"
        self.admin("user", "create", user)
        made = self.admin("token", "create", f"{user}!t", "--output", "json").json()
        for path, role in grants:
            for who in (user, f"{user}!t"):
                self.admin("acl", "grant", path, role, who)
        return f"{made['auth_id']}:{made['secret']}"

    def kill(self) -> None:
        """SIGKILL, as a power cut to the process."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def finish(command: list[str], environment: Mapping[str, str], check: int | None) -> Done:
    """Run to the end; fail the test unless the status is `check` (None: any)."""
    done = subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if check is not None and done.returncode != check:
        shown = " ".join(command[3:])
        raise AssertionError(f"{shown}: status {done.returncode}, wanted {check}\n{done.stdout}\n{done.stderr}")
    return Done(done.returncode, done.stdout, done.stderr)


def start_server(folder: Path, *, config: str = "", environment: Mapping[str, str] | None = None) -> ServerProcess:
    """Start a server and wait until it is ready. Works again on the same folder after a stop or kill."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    (state / "server.json").unlink(missing_ok=True)
    clean = clean_environment(folder, **dict(environment or {}))
    command = [*module_command("ironcore-backup"), "serve", "--state-dir", str(state), "--log-dir", str(folder / "log")]
    if config:
        (folder / "server.toml").write_text(config)
        command += ["--config", str(folder / "server.toml")]
    with (folder / "server.out").open("ab") as output:
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    while not (state / "server.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError("the server did not start:\n" + (folder / "server.out").read_text()[-4000:])
        time.sleep(0.02)
    facts = json.loads((state / "server.json").read_text())
    return ServerProcess(folder, process, facts, (state / "root.token").read_text().strip(), clean)


@contextlib.contextmanager
def running_server(folder: Path, **options: Any) -> Iterator[ServerProcess]:
    """A server for the length of a test; stopped orderly, killed if it does not."""
    server = start_server(folder, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                server.kill()
                raise
