"""How fast verification reads: one snapshot of plain chunks of 1 MiB, from the disk, through the engine.

python contrib/bench/verifying.py FOLDER [--mib 1024]: makes a datastore in FOLDER and removes it. Prints, for content
that does not compress and for content that does (to a sixth): a full pass, and one where the ledger suffices; beside
them what the same disk gives to a plain sequential read of the same files.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import trio
from blake3 import blake3

from ibs.core.names import SnapshotName
from ibs.engine.verify import VerifyRun, verify_snapshot
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs_tests.support.engine import Box, start

MIB = 1 << 20


def raw(number: int) -> bytes:
    """A chunk that does not compress."""
    return blake3(number.to_bytes(8, "big")).digest(length=MIB)


def text(number: int) -> bytes:
    """A chunk that compresses to about a sixth."""
    line = b"%08d %08x the quick brown fox jumps over the lazy dog\n"
    return b"".join(line % (n, (n * 2654435761 + number) & 0xFFFFFFFF) for n in range(number, number + 17000))[:MIB]


def plain_read(folder: Path) -> float:
    """Bytes a second of reading every chunk file once, past the cache."""
    done, began = 0, time.perf_counter()
    for path in sorted(folder.glob("chunks/????/*")):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        done += len(os.pread(fd, 16 * MIB, 0))
        os.close(fd)
    return done / (time.perf_counter() - began)


async def measure(folder: Path, kind: str, mib: int) -> None:
    """Fill, verify, verify again."""
    box = Box(str(folder / kind), pool=ThreadPool(), clock=SystemClock()).create()  # type: ignore[arg-type]
    datastore = await box.open()
    writer = await start(datastore, "disk.img")
    for number in range(mib):
        chunk = raw(number) if kind == "raw" else text(number)
        await writer.send(chunk)
        await writer.append("disk.img", [chunk], number)
    await writer.close("disk.img", [b""] * mib)
    name = SnapshotName.parse((await writer.commit()).snapshot)
    stored = datastore.store.counts().stored_bytes
    os.sync()
    read = plain_read(folder / kind) / MIB
    print(f"{kind}: {mib} chunks of 1 MiB, {stored / MIB:.0f} MiB stored; a plain read gives {read:.0f} MiB/s")
    await trio.sleep(1.1)  # files written in this second are not proven by a check in it
    for run, what in ((VerifyRun(since=1 << 40), "read all"), (VerifyRun(since=0), "ledger")):
        began, cpu = time.perf_counter(), time.process_time()
        report = await verify_snapshot(datastore, name, run=run)
        took = time.perf_counter() - began
        rate = f"{report.bytes / MIB / took:6.0f} MiB/s stored, {mib * report.read / report.chunks / took:6.0f} plain"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"  {what:8}  {report.result}  {report.read:5} read  {took:6.2f} s  {rate}  "
            f"{time.process_time() - cpu:5.1f} s cpu  {peak} MiB peak"
        )
    box.close()


def main() -> None:
    """Parse, measure, print, tidy up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for kind in ("raw", "text"):
            trio.run(measure, place, kind, options.mib)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
