"""What a snapshot costs as it grows: measured on small synthetic stores, extrapolated to large ones, and said so.

    scale.py [--only chunks,files,new,list] [--json FILE] [--large]

Each measurement runs in a process of its own, for its memory. The chunks of the study `chunks` are rows of the store's
index and files that are one hole: what is measured looks at them and reads none. `--large`: larger samples.
"""

# ruff: noqa: E402, SLF001 - the tree's root is put on the path first; stores are filled behind their own backs

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import trio

from ibs.client.backup.plan import BackupPlan
from ibs.client.backup.run import run_backup
from ibs.core import manifest as manifests
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs.core.index import KIND_DATA, KIND_METADATA, RECORD_BYTES, TREE
from ibs.core.manifest import ManifestArchive, SnapshotState
from ibs.core.names import SnapshotName, format_time
from ibs.engine.datastore import Datastore
from ibs.engine.direct import DirectBackupTransport
from ibs.engine.verify import verify_snapshot
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.storage.local.chunkdb import RowState
from ibs.storage.local.layout import chunk_name
from ibs.storage.local.reader import final_path
from ibs.wire.session import ArchiveClose
from ibs_tests.support.engine import Box, Writer, start

Facts = dict[str, float]
BATCH_RECORDS = 100_000
MILLION = 1_000_000


class Stopwatch:
    """Names seconds: by the wall's clock, and of all processors together (steadier on a busy machine)."""

    def __init__(self) -> None:
        self.facts: Facts = {}
        self._began = (time.perf_counter(), time.process_time())

    def lap(self, name: str) -> None:
        """What was done since the last lap."""
        now = (time.perf_counter(), time.process_time())
        if not name.startswith("("):
            self.facts[name] = now[0] - self._began[0]
            self.facts[f"{name}, CPU"] = now[1] - self._began[1]
        self._began = now


def records_of(ids: np.ndarray[Any, Any]) -> bytes:
    """Index records of data chunks of 1 MiB; the last one is the root's metadata."""
    out = np.zeros((len(ids), RECORD_BYTES[TREE]), dtype=np.uint8)
    out[:, :32] = ids
    out[:, 32:36] = np.frombuffer((1 << 20).to_bytes(4, "little"), dtype=np.uint8)
    out[:, 36] = KIND_DATA
    out[-1, 36] = KIND_METADATA
    return out.tobytes()


async def deliver(writer: Writer, ids: np.ndarray[Any, Any], watch: Stopwatch) -> None:
    """Append all records, close, commit."""
    raw = records_of(ids)
    size = RECORD_BYTES[TREE]
    for first in range(0, len(ids), BATCH_RECORDS):
        await writer.session.append("etc.tree", first, raw[first * size : (first + BATCH_RECORDS) * size])
    watch.lap("unchanged: append every record")
    root = ids[-1].tobytes().hex()
    close = ArchiveClose(plain_bytes=len(ids) << 20, records=len(ids), root=root)
    closed = await writer.session.close_archive("etc.tree", close)
    writer.archives["etc.tree"] = ManifestArchive(
        name="etc.tree",
        kind="tree",
        plain_bytes=close.plain_bytes,
        records=len(ids),
        index_bytes=closed.index_bytes,
        index_digest=closed.index_digest,
    )
    watch.lap("unchanged: close the index")
    await writer.commit()
    watch.lap("unchanged: commit")


def ids_of(count: int) -> np.ndarray[Any, Any]:
    """So many ids, the same in each process."""
    return np.random.default_rng(1).integers(0, 256, size=(count, 32), dtype=np.uint8)


def make_holes(chunks: Path, ids: np.ndarray[Any, Any]) -> None:
    """A file of 1 MiB without content for each chunk."""
    for one in ids:
        path = chunks / final_path(chunk_name(Address(PLAIN_DOMAIN, one.tobytes())))
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        os.ftruncate(handle, 1 << 20)
        os.close(handle)


async def study_chunks(folder: Path, count: int) -> Facts:
    """A snapshot of `count` chunks that are all there: the server's side of an unchanged backup.

    The store is filled in this process, the second session measured in another one.
    """
    box = Box(str(folder / "store"), pool=ThreadPool()).create()
    datastore = await box.open()
    ids = ids_of(count)
    watch = Stopwatch()
    for first in range(0, count, 2000):
        some = ids[first : first + 2000]
        rows = [(Address(PLAIN_DOMAIN, one.tobytes()), 1 << 20, RowState.OK) for one in some]
        datastore.store._db.add(rows, 1)
    watch.lap("rows into the chunk index")
    make_holes(folder / "store" / "chunks", ids)
    writer = await start(datastore)
    pins = writer.session._pins
    pins.inherit(pins.promise(ids), ids, np.ones(len(ids), dtype=np.bool_))
    watch.lap("(first session)")
    await deliver(writer, ids, Stopwatch())
    index = next((folder / "store" / "ns").rglob("etc.tree.idx"))
    sizes = {
        "bytes: index file": index.stat().st_size,
        "bytes: chunk index on disk": sum(
            path.stat().st_size for path in (folder / "store" / ".ibs").glob("chunks.db*")
        ),
    }
    await datastore.close("done")
    command = [sys.executable, __file__, "--one", "again", str(count), str(folder)]
    again = json.loads((await trio.run_process(command, capture_stdout=True)).stdout)
    return watch.facts | again | sizes


async def study_again(folder: Path, count: int) -> Facts:
    """The second session on the store that `study_chunks` made."""
    box = Box(str(folder / "store"), pool=ThreadPool())
    box.clock.advance(3600)
    datastore = await box.open()
    watch = Stopwatch()
    writer = await start(datastore)
    watch.lap("unchanged: open with a base")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await deliver(writer, ids_of(count), watch)
    await datastore.close("done")
    return watch.facts | {
        "open: peak MiB": peak,
        "commit: peak MiB (with 70 B a chunk of this program's)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / 1024,
    }


async def study_files(folder: Path, count: int) -> Facts:
    """An unchanged tree of `count` empty files in folders of 1000: the client's walk beside the previous snapshot."""
    source = folder / "source"
    for number in range(0, count, 1000):
        place = source / f"d{number // 1000:05}"
        place.mkdir(parents=True)
        for each in range(1000):
            os.close(os.open(place / f"file-{number + each:08}.txt", os.O_CREAT | os.O_WRONLY, 0o644))
    box = Box(str(folder / "store"), pool=ThreadPool()).create()
    datastore = await box.open()

    async def find(_name: str) -> Datastore:
        return datastore

    plan = BackupPlan(
        store="s1", group="host/x", sources=(("data.tree", str(source)),), owner="alice@ibs", client="scale"
    )
    facts: Facts = {}
    for name in ("first", "unchanged"):
        await trio.sleep(2.5 if name == "first" else 0)  # files touched a moment ago would be read again
        box.clock.advance(3600)
        watch = Stopwatch()
        outcome = await run_backup(
            DirectBackupTransport(find, "alice@ibs"), plan, pool=ThreadPool(), clock=SystemClock()
        )
        watch.lap(name)
        facts |= watch.facts
        if name == "unchanged" and outcome.files_reused != count:
            raise SystemExit(f"error: {outcome.files_reused} of {count} files were taken over")
        facts[f"{name}: peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    chunks = [path for path in (folder / "store" / "chunks").rglob("*") if path.is_file()]
    facts["bytes: metadata as stored"] = sum(path.stat().st_size for path in chunks)
    box.close()
    return facts


async def study_new(folder: Path, count: int) -> Facts:
    """A first backup of `count` chunks of 200 bytes, through the real store; then its verification."""
    box = Box(str(folder / "store"), pool=ThreadPool()).create()
    datastore = await box.open()
    writer = await start(datastore)
    chunks = [b"%08d" % number * 25 for number in range(count)]
    watch = Stopwatch()
    for at in range(0, count, 500):
        await writer.send(*chunks[at : at + 500])
    watch.lap("receive every chunk")
    await writer.append("etc.tree", chunks)
    await writer.close("etc.tree", chunks)
    watch.lap("append and close")
    result = await writer.commit()
    watch.lap("commit")
    report = await verify_snapshot(datastore, SnapshotName.parse(result.snapshot))
    watch.lap("verify")
    if report.result != "OK":
        raise SystemExit(f"error: verification says {report.result}")
    box.close()
    return watch.facts | {"peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def study_list(folder: Path, count: int) -> Facts:
    """Listing `count` snapshots in groups of 100, the first time and again."""
    box = Box(str(folder / "store"), pool=ThreadPool()).create()
    datastore = await box.open()
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"one chunk"])
    stated = writer.manifest()
    result = await writer.commit()
    whole = Path(box.path) / "ns"
    [model] = [path.parent for path in whole.rglob(manifests.MANIFEST_FILE)]
    state = manifests.encode_state(SnapshotState())
    signature = (model / manifests.SIGNATURE_FILE).read_bytes()
    owner = (model.parent / manifests.OWNER_FILE).read_bytes()
    moment = SnapshotName.parse(result.snapshot).time
    assert moment is not None
    for number in range(count):
        group = model.parent.with_name(f"h{number // 100:04}")
        time_ = format_time(moment.replace(hour=number % 100 % 24, minute=number % 100 // 24))
        place = group / time_
        place.mkdir(parents=True)
        (group / manifests.OWNER_FILE).write_bytes(owner)
        named = f"host/{group.name}/{time_}"
        changed = manifests.encode(
            type(stated)(**{f: getattr(stated, f) for f in stated.__struct_fields__} | {"snapshot": named})
        )
        (place / manifests.MANIFEST_FILE).write_bytes(changed)
        (place / manifests.SIGNATURE_FILE).write_bytes(signature)
        (place / manifests.STATE_FILE).write_bytes(state)
        os.link(model / "etc.tree.idx", place / "etc.tree.idx")
    namespace = SnapshotName.parse(result.snapshot).namespace
    watch = Stopwatch()
    rows = await datastore.snapshots.snapshot_views(namespace)
    watch.lap("list everything, the first time")
    await datastore.snapshots.snapshot_views(namespace)
    watch.lap("list everything, again")
    await datastore.snapshots.group_views(namespace)
    watch.lap("list groups")
    if sum(row.verify != "CORRUPT" for row in rows) != count + 1:
        raise SystemExit("error: not every snapshot was readable")
    box.close()
    return watch.facts | {"peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


Study = Callable[[Path, int], Any]
STUDIES: dict[str, tuple[Study, tuple[int, int], tuple[int, ...], str]] = {
    "chunks": (study_chunks, (20_000, 80_000), (MILLION, 10 * MILLION), "chunks"),
    "files": (study_files, (20_000, 120_000), (MILLION, 10 * MILLION), "files"),
    "new": (study_new, (1_000, 4_000), (MILLION,), "new chunks"),
    "list": (study_list, (1_000, 4_000), (10_000,), "snapshots"),
}


def run_one(name: str, count: int, place: str = "") -> Facts:
    """One measurement in this process."""
    if place:
        return dict(trio.run(study_again, Path(place), count))
    with tempfile.TemporaryDirectory(prefix="ibs-scale-") as folder:
        return dict(trio.run(STUDIES[name][0], Path(folder), count))


def shown(name: str, value: float) -> str:
    """With its unit."""
    if name.startswith("bytes"):
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.0f} MiB" if "MiB" in name else f"{value:,.2f} s"


def report(name: str, sizes: tuple[int, int], targets: tuple[int, ...], what: str, rows: list[Facts]) -> None:
    """Both samples, the growth from one to the other, and straight lines through them."""
    small, large = rows
    low, high = sizes
    print(f"\n{name}: measured at {low:,} and {high:,} {what}; the rest is a straight line through these two")
    heads = [f"{low:,}", f"{high:,}", "each more", *(f"~{target:,}" for target in targets)]
    print(f"  {'':56}" + "".join(f"{head:>16}" for head in heads))
    for key, last in large.items():
        slope = (last - small[key]) / (high - low)
        each = f"{slope:.1f} B" if key.startswith("bytes") else f"{slope * 1e6:.2f} us"
        each = f"{slope * 1024 * 1024:.0f} B" if "MiB" in key else each
        guesses = [shown(key, max(last + slope * (target - high), 0)) for target in targets]
        cells = [shown(key, small[key]), shown(key, last), each, *guesses]
        print(f"  {key:56}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> int:
    """Every study, each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(STUDIES))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one[0], int(options.one[1]), *options.one[2:])))
        return 0
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; stores in {tempfile.gettempdir()}")
    found: dict[str, Any] = {}
    for name in options.only.split(","):
        _study, (low, high), targets, what = STUDIES[name]
        sizes = (low * 4, high * 4) if options.large else (low, high)
        rows = []
        for size in sizes:
            command = [sys.executable, __file__, "--one", name, str(size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout))
        report(name, sizes, targets, what, rows)
        found[name] = {"sizes": sizes, "rows": rows}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
