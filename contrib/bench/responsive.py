"""Does the server still answer while a backup and a restore run at full speed? Latencies of `status`, and loop stalls.

    responsive.py [--mib 1024] [--work DIR] [--json FILE]

A real server process, a real client, TLS; a third program asks `GET /api/v1/status` again and again on a connection of
its own. Wanted: 99 of 100 answers within 250 ms, and no step of the event loop over 50 ms in the server's own code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dataset
from tools import Ours

from ibs.client.http import ApiClient
from ibs.wire.system import ServerStatus

P99_MS_MAX = 250.0
PAUSE_SECONDS = 0.02
STALL = "the event loop stalled"
STALL_MS = 50.0


def make_source(folder: Path, size_mib: int) -> None:
    """Half text, half noise, in files of 64 MiB and some thousand small ones."""
    folder.mkdir(parents=True)
    words = dataset.text(1, 64 << 20)
    for number in range(max(size_mib // 64, 1)):
        stamp = b"%08d" % number
        body = dataset.noise(stamp, 64 << 20) if number % 2 else stamp + words[8:]
        (folder / f"big{number:03}").write_bytes(body)
    dataset.make_small(folder / "small", 5000)


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a client and leave it running."""
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def poll(api: ApiClient, process: subprocess.Popen[bytes]) -> list[float]:
    """Milliseconds of each answer for as long as `process` runs."""
    spent = []
    while process.poll() is None:
        began = time.perf_counter()
        await api.get("/status", ServerStatus)
        spent.append((time.perf_counter() - began) * 1000)
        await trio.sleep(PAUSE_SECONDS)
    return spent


def summary(spent: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    ordered = sorted(spent)

    def at(share: float) -> float:
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1)

    return {
        "answers": len(ordered),
        "p50_ms": at(0.50),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "mean_ms": round(statistics.fmean(ordered), 1),
    }


def stalls(logs: Path) -> list[dict[str, Any]]:
    """What the server's stall reporter wrote."""
    found = []
    for path in logs.glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if STALL in line:
                found.append(json.loads(line))
    return found


async def measure(ours: Ours, source: Path) -> dict[str, Any]:
    """Poll during a first backup, an unchanged one, and a restore."""
    auth, _, place = ours.environment["IBS_REPOSITORY"].rpartition("@")
    server = place.rpartition(":")[0]
    found: dict[str, Any] = {}
    async with ApiClient(
        f"https://{server}",
        fingerprint=ours.environment["IBS_FINGERPRINT"],
        auth_id=auth,
        secret=ours.environment["IBS_SECRET"],
    ) as api:
        await api.get("/status", ServerStatus)
        commands = {
            "backup": ["backup", f"data.tree:{source}", "--backup-id", "bench"],
            "unchanged": ["backup", f"data.tree:{source}", "--backup-id", "bench"],
            "restore": ["restore", "host/bench", "data.tree", str(ours.folder / "restored")],
        }
        for name, arguments in commands.items():
            began = time.perf_counter()
            process = start([ours.client, *arguments], ours.environment)
            spent = await poll(api, process)
            if process.returncode not in (0, 4):
                raise SystemExit(f"error: the client ended with {process.returncode} during {name}")
            found[name] = summary(spent) | {"seconds": round(time.perf_counter() - began, 1)}
        status = await api.get("/status", ServerStatus)
        found["loop_stalls"] = status.loop_stalls
        found["loop_stall_longest_ms"] = status.loop_stall_longest_ms
    return found


def main() -> int:
    """Measure, print, and say what was wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="ibs-responsive-") as folder:
        source = Path(folder) / "source"
        make_source(source, options.mib)
        ours = Ours(Path(folder) / "place")
        ours.prepare()
        try:
            load = os.getloadavg()[0]
            found = trio.run(measure, ours, source)
        finally:
            ours.process.terminate()
            ours.process.wait(60)
        told = stalls(ours.folder / "logs")
    print(f"load average {load:.1f} on {os.cpu_count()} processors before")
    for name in ("backup", "unchanged", "restore"):
        one = found[name]
        verdict = "met" if one["p99_ms"] <= P99_MS_MAX else "NOT MET"
        print(
            f"{name:>9}: {one['seconds']:6.1f} s, {one['answers']:5} answers of status: p50 {one['p50_ms']} ms, "
            f"p95 {one['p95_ms']} ms, p99 {one['p99_ms']} ms, max {one['max_ms']} ms "
            f"(p99 within {P99_MS_MAX:.0f} ms: {verdict})"
        )
    print(f"loop stalls over 50 ms: {found['loop_stalls']}, longest {found['loop_stall_longest_ms']:.0f} ms")
    for line in told:
        print(f"  {line['task']}: {line['duration_ms']} ms, computing for {line['computing_ms']} ms of it")
    own = sum(line["computing_ms"] > STALL_MS for line in told)
    print(f"of these in the server's own code, not waiting for a busy machine: {own} ({'NOT met' if own else 'met'})")
    if options.json:
        options.json.write_text(json.dumps(found | {"stalls": told}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
