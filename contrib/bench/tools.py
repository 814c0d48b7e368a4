"""The programs that are compared: each knows how to prepare a repository, back up, and restore."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from places import Place

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
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise RuntimeError(f"{' '.join(command)}: {process.returncode}\n{log.read_text(errors='replace')[-3000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def disk_bytes(folder: Path) -> int:
    """What a repository takes on disk, without what is set aside there for a full disk (`.ibs/reserve`)."""
    reserve = folder / ".ibs" / "reserve"
    return sum(
        path.stat().st_blocks * 512
        for path in folder.rglob("*")
        if path.is_file() and path != reserve and reserve not in path.parents
    )


class Tool:
    """A backup program under test."""

    name = ""

    def __init__(self, folder: Path, *, size_gib: int = 0) -> None:
        """`folder` gets a folder for this tool; `size_gib` above 0 makes that a file system of its own."""
        self.place = Place(folder / self.name, size_gib=size_gib, own_file_system=size_gib > 0)
        self.folder = self.place.folder
        self.repository = self.folder / "repository"
        self.environment = os.environ | {"BENCH_LOG": str(self.folder / "log"), "HOME": str(self.folder)}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # ours alone would start slower
        self.server: Figures | None = None

    def prepare(self) -> None:
        """Make an empty repository."""

    def backup(self, source: Path) -> Figures:
        """Back up the folder or image `source` once."""
        raise RuntimeError(f"{self.name} cannot back up {source}")

    def restore(self, source: Path, target: Path) -> Figures:
        """Restore the newest backup of `source` below `target`."""
        raise RuntimeError(f"{self.name} cannot restore {source} to {target}")

    def close(self) -> None:
        """Stop what `prepare` started, and give everything back."""
        self.place.remove()

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

    def restore(self, source: Path, target: Path) -> Figures:  # noqa: ARG002 - a Tool
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

    def restore(self, source: Path, target: Path) -> Figures:  # noqa: ARG002 - a Tool
        target.mkdir(parents=True, exist_ok=True)
        command = ["sh", "-c", 'cd "$1" && exec borg extract "$2"', "sh", str(target), f"::run{self.count}"]
        return measure(command, self.environment)


class Ours(Tool):
    """This product: client, TLS, and server on the same machine."""

    name = "ibs"
    newest = ""
    read_bytes = 0

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
        self.port = int(facts["address"].rpartition(":")[2])
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

    def backup(self, source: Path, *, changed: Path | None = None) -> Figures:
        more = ["--changed", f"{archive_of(source)}={changed}", "--changed-since", self.newest] if changed else []
        command = [self.client, "backup", f"{archive_of(source)}:{source}", "--backup-id", "bench", *more]
        figures = self._with_server([*command, "--output", "json"])
        said = (self.folder / "log").read_text(errors="replace")
        outcome = json.loads(said[said.index("{") : said.rindex("}") + 1])
        self.newest = outcome["snapshot"]
        self.read_bytes = outcome["bytes_read"]
        return figures

    def restore(self, source: Path, target: Path) -> Figures:
        archive = archive_of(source)
        place = target if archive.endswith(".tree") else target / "disk.raw"
        if place != target:
            target.mkdir(parents=True, exist_ok=True)
        return self._with_server([self.client, "restore", "host/bench", archive, str(place)])

    def through(self, port: int) -> None:
        """From now on the client reaches the server by another port of this machine."""
        auth, _, store = self.environment["IBS_REPOSITORY"].rpartition("@")
        self.environment["IBS_REPOSITORY"] = f"{auth}@127.0.0.1:{port}:{store.rpartition(':')[2]}"

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        super().close()


class InProcess(Tool):
    """This product's pipelines in one process, straight into a datastore: no TLS, no HTTP, no server."""

    name = "ibs, no TLS"

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("inprocess.py")), *arguments]

    def backup(self, source: Path) -> Figures:
        return measure(
            self._command("backup", str(self.repository), f"{archive_of(source)}:{source}"), self.environment
        )

    def restore(self, source: Path, target: Path) -> Figures:
        archive = archive_of(source)
        place = target if archive.endswith(".tree") else target / "disk.raw"
        if place != target:
            target.mkdir(parents=True, exist_ok=True)
        return measure(self._command("restore", str(self.repository), archive, str(place)), self.environment)


def archive_of(source: Path) -> str:
    """How this product names the archive of a source."""
    return "data.tree" if source.is_dir() else "disk.img"
