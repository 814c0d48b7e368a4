"""Any tree a file system can hold goes into an archive and comes back the same."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibs.client.restore.plan import RestorePlan
from ibs.client.restore.run import run_restore
from ibs.core import limits
from ibs.core.keys import DataKeys
from ibs.restore.tree.folders import Overwrite
from ibs.runtime.pool import InlinePool, ThreadPool
from ibs_tests.support.restores import CLOCK, SNAPSHOT, STORE, MemorySnapshot
from ibs_tests.support.treecmp import tree_differences

ROOT = os.geteuid() == 0
NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"ab", b"a.b", b"a!", b".hidden", b"\xff\xfe", b"new\nline", b"x" * 255, b"a b", b"~"]
    ),
    st.binary(min_size=1, max_size=5).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
)
TIMES = st.one_of(st.integers(-(10**18), 4 * 10**18), st.sampled_from([0, 1, 999_999_999, 10**9]))
MODES = st.integers(0, 0o7777)
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([4096, 65536, 65537, 262144, 700_001]))


@st.composite
def contents(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Runs of data at ascending offsets, with holes between; the last may be empty and sets the size."""
    at, runs = 0, []
    for _ in range(draw(st.integers(0, 3))):
        at += draw(st.sampled_from([0, 0, 1, 4096, 200_000, 5 << 20]))
        size = draw(SIZES)
        seed = draw(st.binary(min_size=1, max_size=3))
        runs.append((at, (seed * (size // len(seed) + 1))[:size]))
        at += size
    runs.append((at + draw(st.sampled_from([0, 0, 7, 1 << 20])), b""))
    return runs


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[bytes, str, object, int, int, int]]:
    """(path, kind, content, mode, mtime in ns, owner) of entries, folders before what is in them."""
    folders, rows, files = [b""], [], []
    taken = {b""}
    for _ in range(draw(st.integers(0, 14))):
        parent = draw(st.sampled_from(folders))
        path = (parent + b"/" if parent else b"") + draw(NAMES)
        if path in taken:
            continue
        taken.add(path)
        kinds = (
            ["file", "file", "folder", "symlink", "fifo", "socket"]
            + (["link"] if files else [])
            + (["char"] if ROOT else [])
        )
        kind = draw(st.sampled_from(kinds))
        content: object = None
        if kind == "file":
            content = draw(contents())
            files.append(path)
        elif kind == "folder":
            folders.append(path)
        elif kind == "symlink":
            content = draw(st.binary(min_size=1, max_size=40).filter(lambda target: b"\0" not in target))
        elif kind == "link":
            content = draw(st.sampled_from(files))
        rows.append(
            (path, kind, content, draw(MODES), draw(TIMES), draw(st.integers(0, 70_000)) if ROOT else os.geteuid())
        )
    return rows


def make(root: bytes, rows: list[tuple[bytes, str, object, int, int, int]]) -> None:
    for path, kind, content, mode, _, owner in rows:
        full = root + b"/" + path
        if kind == "folder":
            os.mkdir(full)
        elif kind == "file":
            with open(full, "wb") as file:
                assert isinstance(content, list)
                for at, data in content:
                    file.seek(at)
                    file.write(data)
                file.truncate(content[-1][0])
        elif kind == "symlink":
            os.symlink(content, full)  # type: ignore[arg-type]
        elif kind == "link":
            os.link(root + b"/" + content, full)  # type: ignore[operator]
            continue
        else:
            os.mknod(
                full, {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR}[kind], os.makedev(1, 3)
            )
        if ROOT:
            os.chown(full, owner, owner // 2, follow_symlinks=False)
        if kind == "file":
            os.setxattr(full, b"user.mode", b"%o" % mode)
    for path, kind, _, mode, mtime, _ in reversed(rows):
        full = root + b"/" + path
        if kind not in ("symlink", "link"):
            # As an ordinary user the source must stay readable for the archiver of the test.
            os.chmod(full, mode if ROOT else (mode & 0o777) | (0o700 if kind == "folder" else 0o400))
        if kind != "link":
            os.utime(full, ns=(mtime, mtime), follow_symlinks=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trees(),
    st.sampled_from([300, 70_000, limits.CHUNK_PLAIN_BYTES_MAX]),
    st.sampled_from([None, DataKeys.from_root(b"r" * 32)]),
    st.booleans(),
    st.sampled_from([4096, 100_000, limits.RESTORE_JOB_BYTES]),
)
def test_what_goes_in_comes_out(
    rows: list[tuple[bytes, str, object, int, int, int]],
    cut: int,
    keys: DataKeys | None,
    threads: bool,
    job_bytes: int,
) -> None:
    normal = limits.RESTORE_JOB_BYTES
    with tempfile.TemporaryDirectory() as base:
        source, target = os.fsencode(base) + b"/source", os.fsencode(base) + b"/target"
        os.mkdir(source)
        make(source, rows)
        snapshot = MemorySnapshot(keys=keys, cut=cut)
        snapshot.add_folder("a.tree", source)

        async def restore(overwrite: Overwrite) -> str:
            plan = RestorePlan(
                store=STORE,
                snapshot=SNAPSHOT,
                archive="a.tree",
                target=os.fsdecode(target),
                keys=keys,
                overwrite=overwrite,
            )
            pool = ThreadPool() if threads else InlinePool()
            return (await run_restore(snapshot.transport(), plan, pool=pool, clock=CLOCK)).status

        try:
            limits.RESTORE_JOB_BYTES = job_bytes
            assert trio.run(restore, Overwrite.NEVER) == "OK"
            assert tree_differences(source, target) == []
            # And once more over itself, replacing everything.
            assert trio.run(restore, Overwrite.ALWAYS) == "OK"
            assert tree_differences(source, target) == []
        finally:
            limits.RESTORE_JOB_BYTES = normal
            for path in Path(base).rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
