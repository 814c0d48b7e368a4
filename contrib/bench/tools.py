"""The programs that are compared: each knows how to prepare a repository, back up, and restore."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Figures:
    """One measured command: wall and CPU seconds (children included), peak resident MiB."""

    wall: float
    cpu: float
    peak_mib: float


def measure(command: list[str], environment: dict[str, str]) -> Figures:
    """Run one command to its end and account for it. Raises RuntimeError with its output when it fails."""
    log = Path(environment["BENCH_LOG"])
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise RuntimeError(f"{' '.join(command)}: {process.returncode}\n{log.read_text(errors='replace')[-3000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def disk_bytes(folder: Path) -> int:
    """What a repository takes on disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "reserve")


class Tool:
    """A backup program under test."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.repository = self.folder / "repository"
        self.environment = os.environ | {"BENCH_LOG": str(self.folder / "log"), "HOME": str(self.folder)}
        self.server: Figures | None = None

    def prepare(self) -> None:
        """Make an empty repository."""

    def backup(self, source: Path) -> Figures:
        """Back up `source` once."""
        raise RuntimeError(f"{self.name} cannot back up {source}")

    def restore(self, target: Path) -> Figures:
        """Restore the newest backup into `target`."""
        raise RuntimeError(f"{self.name} cannot restore to {target}")

    def close(self) -> None:
        """Stop what `prepare` started."""

    def stored_bytes(self) -> int:
        return disk_bytes(self.repository)


class Restic(Tool):
    """restic with a local repository; it always encrypts."""

    name = "restic"

    def prepare(self) -> None:
        self.environment |= {"RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": str(self.repository)}
        self.environment["RESTIC_CACHE_DIR"] = str(self.folder / "cache")
        measure(["restic", "init"], self.environment)

    def backup(self, source: Path) -> Figures:
        return measure(["restic", "backup", "-q", str(source)], self.environment)

    def restore(self, target: Path) -> Figures:
        return measure(["restic", "restore", "-q", "latest", "--target", str(target)], self.environment)


class Borg(Tool):
    """borg with a local repository, encrypted (repokey)."""

    name = "borg"

    def prepare(self) -> None:
        self.environment |= {"BORG_PASSPHRASE": "bench", "BORG_REPO": str(self.repository)}
        self.environment |= {"BORG_BASE_DIR": str(self.folder), "BORG_EXIT_CODES": "modern"}
        self.count = 0
        measure(["borg", "init", "-e", "repokey"], self.environment)

    def backup(self, source: Path) -> Figures:
        self.count += 1
        return measure(["borg", "create", f"::run{self.count}", str(source)], self.environment)

    def restore(self, target: Path) -> Figures:
        target.mkdir(parents=True, exist_ok=True)
        command = ["sh", "-c", 'cd "$1" && exec borg extract "$2"', "sh", str(target), f"::run{self.count}"]
        return measure(command, self.environment)


class Ours(Tool):
    """This product: client, TLS, and server on the same machine."""

    name = "ibs"

    def prepare(self) -> None:
        state = self.folder / "state"
        self.environment |= {"IBS_STATE_DIR": str(state), "XDG_CONFIG_HOME": str(self.folder / "config")}
        command = [
            str(BIN / "ironcore-backup"),
            "serve",
            "--state-dir",
            str(state),
            "--log-dir",
            str(self.folder / "logs"),
        ]
        output = (self.folder / "server.out").open("wb")
        self.process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], env=self.environment, stdout=output, stderr=output
        )
        while not (state / "server.json").exists():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "server.out").read_text())
            time.sleep(0.02)
        facts = json.loads((state / "server.json").read_text())
        admin = str(BIN / "ironcore-backup")
        measure([admin, "datastore", "create", "bench", "--path", str(self.repository)], self.environment)
        auth_id, _, secret = (state / "root.token").read_text().strip().partition(":")
        host, _, port = facts["address"].rpartition(":")
        self.environment |= {
            "IBS_REPOSITORY": f"{auth_id}@{host}:{port}:bench",
            "IBS_SECRET": secret,
            "IBS_FINGERPRINT": facts["fingerprint"],
        }
        self.client = str(BIN / "ironcore-backup-client")

    def _server_usage(self) -> tuple[float, float]:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return cpu, peak / 1024

    def _with_server(self, command: list[str]) -> Figures:
        before, _ = self._server_usage()
        figures = measure(command, self.environment)
        after, peak = self._server_usage()
        self.server = Figures(figures.wall, after - before, peak)
        return figures

    def backup(self, source: Path) -> Figures:
        return self._with_server([self.client, "backup", f"data.tree:{source}", "--backup-id", "bench"])

    def restore(self, target: Path) -> Figures:
        return self._with_server([self.client, "restore", "host/bench", "data.tree", str(target)])

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
