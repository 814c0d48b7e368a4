"""Whatever an archive says, and whatever lies in the target: nothing outside the target is touched."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibs.core.tree import Entry, Extent, Kind
from ibs.errors import IbsError
from ibs.restore.tree.folders import Overwrite
from ibs_tests.support.restores import SyncRestore, folder

PARTS = st.sampled_from([b"a", b"b", b"out", b"..", b".", b"", b"up", b"\0", b"self", b"abs"])
PATHS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=4).map(b"/".join),
    st.lists(st.sampled_from([b"a", b"b", b"up", b"out"]), min_size=1, max_size=3).map(b"/".join),
)
LINKS = st.one_of(
    PATHS,
    st.sampled_from([b"..", b"../outside", b"/", b"../../..", b"../outside/victim", b"a", b"/proc/self/cwd", b"."]),
)
NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)]))


@st.composite
def hostile(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.CONTINUATION]))
    extents, ranges, size = (), (), draw(NUMBERS) if draw(st.booleans()) else 0
    if kind is Kind.FILE and draw(st.booleans()):
        extents = tuple(
            Extent(draw(st.sampled_from(IDS)), draw(NUMBERS), draw(NUMBERS)) for _ in range(draw(st.integers(0, 3)))
        )
        ranges = tuple((draw(NUMBERS), draw(NUMBERS)) for _ in range(draw(st.integers(0, 2))))
    return Entry(
        path=draw(PATHS),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(NUMBERS),
        gid=draw(NUMBERS),
        mtime_ns=draw(NUMBERS),
        size=size,
        link=draw(LINKS) if kind in (Kind.SYMLINK, Kind.HARDLINK) else b"",
        rdev=draw(st.sampled_from([0, 1 << 32 | 3, 2**64 - 1])),
        xattrs=draw(st.sampled_from([(), ((b"user.x", b"1"),), ((b"", b""),), ((b"security.capability", b"junk"),)])),
        extents=extents,
        ranges=ranges,
    )


IDS = [b"1" * 32, b"2" * 32, b"?" * 32]


def state(path: Path) -> list[tuple[str, int, int, int, int, bytes]]:
    """Everything about what must not change."""
    found = []
    for each in [path, *sorted(path.rglob("*"))]:
        facts = each.lstat()
        content = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
        found.append((str(each), facts.st_mode, facts.st_uid, facts.st_nlink, facts.st_mtime_ns, content))
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(hostile(), max_size=8), st.sampled_from(list(Overwrite)), st.booleans())
def test_nothing_outside_the_target_is_touched(entries: list[Entry], overwrite: Overwrite, furnished: bool) -> None:
    base = Path(tempfile.mkdtemp(prefix="ibs-hostile-"))
    try:
        outside, target = base / "outside", base / "target"
        outside.mkdir()
        (outside / "victim").write_text("mine")
        (outside / "a").mkdir()
        target.mkdir()
        if furnished:
            (target / "up").symlink_to("..")
            (target / "out").symlink_to("../outside")
            (target / "abs").symlink_to(outside)
            (target / "self").symlink_to("/proc/self/root")
            (target / "a").mkdir()
            (target / "a" / "b").symlink_to("../../outside/victim")
        before = state(outside)
        restore = SyncRestore(str(target), overwrite=overwrite, fresh=not furnished)
        restore.chunks = {IDS[0]: b"x" * 100, IDS[1]: b"y" * 5}
        with suppress(IbsError):  # refused as a whole is as good
            restore.run(folder(b""), *entries)
        assert state(outside) == before
        assert sorted(os.listdir(base)) == ["outside", "target"]
        for parent, _, names in os.walk(target):
            assert not [name for name in names if name.endswith(".tmp")], parent
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", "--", base], check=True)  # archived modes may lock their owner out
    subprocess.run(["rm", "-rf", "--", base], check=True)
