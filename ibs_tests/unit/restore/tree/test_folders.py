"""Folders are made or merged into, and settled when everything below them is done."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Kind
from ibs.restore.tree.folders import FolderKeeper, Overwrite, State, TargetFolder, may_replace, same_kind
from ibs.restore.tree.report import Reason, RestoreReport
from ibs.restore.tree.safe_path import SafeRoot
from ibs_tests.support.restores import folder
from ibs_tests.support.users import as_nobody, public_folder


class World:
    """A keeper over a folder with a root adopted."""

    def __init__(
        self, path: Path, *, overwrite: Overwrite = Overwrite.NEVER, fresh: bool = True, **more: object
    ) -> None:
        self.root = SafeRoot(str(path))
        self.report = RestoreReport()
        self.keeper = FolderKeeper(self.root, self.report, overwrite=overwrite, fresh=fresh, **more)  # type: ignore[arg-type]
        self.top = self.keeper.adopt_root(folder(b"", mode=0o711), settle=True)

    def child(self, name: bytes, parent: TargetFolder | None = None, **values: object) -> TargetFolder:
        return TargetFolder(parent or self.top, name, folder(name, **values))

    def reasons(self) -> list[Reason]:
        return [problem.reason for problem in self.report.problems()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_until_settled(tmp_path: Path) -> None:
    world = World(tmp_path)
    inner = world.child(b"d", mode=0o555)
    assert world.keeper.make(inner, settle=True)
    assert mode(tmp_path / "d") == 0o700
    world.keeper.hold(inner)
    world.keeper.close(inner)
    assert mode(tmp_path / "d") == 0o700
    world.keeper.done(inner)
    assert mode(tmp_path / "d") == 0o555
    assert (tmp_path / "d").stat().st_mtime_ns == 10**18


def test_parents_settle_after_their_children_and_the_root_last(tmp_path: Path) -> None:
    world = World(tmp_path)
    outer = world.child(b"o", mode=0o500)
    inner = world.child(b"i", outer, mode=0o500)
    world.keeper.make(inner, settle=True)
    world.keeper.hold(inner)
    for each in (inner, outer, world.top):
        world.keeper.close(each)
    assert mode(tmp_path / "o") == 0o700
    world.keeper.done(inner)
    assert (mode(tmp_path / "o"), mode(tmp_path / "o" / "i")) == (0o500, 0o500)
    assert mode(tmp_path) != 0o711
    world.keeper.complete()
    world.keeper.complete()
    assert mode(tmp_path) == 0o711


def test_existing_folders_are_merged_into_and_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    world = World(tmp_path, fresh=False)
    inner = world.child(b"d", mode=0o555)
    assert world.keeper.make(inner, settle=True)
    assert not inner.fresh
    world.keeper.close(inner)
    assert mode(tmp_path / "d") == 0o750


@pytest.mark.parametrize(
    ("overwrite", "mtime_ns", "expected"),
    [
        (Overwrite.ALWAYS, 0, 0o555),
        (Overwrite.IF_NEWER, 2 * 10**18, 0o555),
        (Overwrite.IF_NEWER, 0, 0o750),
    ],
)
def test_their_metadata_follows_the_overwrite_rule(
    tmp_path: Path, overwrite: Overwrite, mtime_ns: int, expected: int
) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    os.utime(tmp_path / "d", ns=(10**18, 10**18))
    world = World(tmp_path, fresh=False, overwrite=overwrite)
    inner = world.child(b"d", mode=0o555, mtime_ns=mtime_ns)
    world.keeper.make(inner, settle=True)
    world.keeper.close(inner)
    assert mode(tmp_path / "d") == expected


def test_a_mere_parent_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    world = World(tmp_path, fresh=False, overwrite=Overwrite.ALWAYS)
    inner = world.child(b"d", mode=0o555)
    world.keeper.make(inner, settle=False)
    world.keeper.close(inner)
    assert mode(tmp_path / "d") == 0o750


def test_a_resumed_restore_settles_what_it_made_before(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    world = World(tmp_path, fresh=False, resumed=True)
    inner = world.child(b"d", mode=0o555)
    world.keeper.make(inner, settle=False)
    world.keeper.close(inner)
    assert mode(tmp_path / "d") == 0o555


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_nothing_is_made_through_what_is_in_the_way(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "t"
    target.mkdir()
    (tmp_path / "outside").mkdir()
    if kind == "file":
        (target / "d").write_text("mine")
    else:
        (target / "d").symlink_to("../outside" if kind == "link" else "/nowhere")
    world = World(target, fresh=False)
    inner = world.child(b"i", world.child(b"d"))
    assert not world.keeper.make(inner, settle=True)
    assert inner.state is State.BLOCKED
    assert world.reasons() == [Reason.IN_THE_WAY]
    assert os.listdir(tmp_path / "outside") == []
    assert not (target / "d").is_dir() or (target / "d").is_symlink()


def test_always_replaces_a_link_not_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    (tmp_path / "outside").mkdir()
    (target / "d").symlink_to("../outside")
    world = World(target, fresh=False, overwrite=Overwrite.ALWAYS)
    inner = world.child(b"i", world.child(b"d"))
    assert world.keeper.make(inner, settle=True)
    assert not (target / "d").is_symlink()
    assert (target / "d" / "i").is_dir()
    assert os.listdir(tmp_path / "outside") == []


def test_inherited_acls_do_not_stay(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", tmp_path], check=True)
    world = World(tmp_path, fresh=False)
    inner = world.child(b"d")
    world.keeper.make(inner, settle=True)
    world.keeper.close(inner)
    assert os.listxattr(tmp_path / "d") == []


def test_left_over_temporary_files_of_the_run_before_go(tmp_path: Path) -> None:
    nonce = "0123456789abcdef"
    (tmp_path / "d").mkdir()
    for name in (f".ibs-restore-{nonce}-7.tmp", ".ibs-restore-ffffffffffffffff-7.tmp", "other"):
        (tmp_path / "d" / name).touch()
        (tmp_path / name).touch()
    world = World(tmp_path, fresh=False, stale_nonce=nonce)
    world.keeper.make(world.child(b"d"), settle=True)
    for path in (tmp_path, tmp_path / "d"):
        assert sorted(name for name in os.listdir(path) if name != "d") == [
            ".ibs-restore-ffffffffffffffff-7.tmp",
            "other",
        ]


def test_what_is_lost_is_remembered_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTORE_LOST_PATHS_MAX", 2)
    keeper = World(tmp_path).keeper
    keeper.mark_lost(b"a")
    keeper.mark_lost(b"b")
    assert keeper.is_lost(b"a")
    assert not keeper.is_lost(b"c")
    keeper.mark_lost(b"d")  # too many to remember: nothing is trusted any more
    assert keeper.is_lost(b"c")


def test_a_folder_that_may_not_be_made_blocks_what_is_below() -> None:
    def work() -> None:
        world = World(closed, fresh=False)
        inner = world.child(b"i", world.child(b"d"))
        assert not world.keeper.make(inner, settle=True)
        assert not world.keeper.make(world.child(b"j", inner), settle=True)
        assert world.reasons() == [Reason.NOT_CREATED]

    with public_folder() as public:
        closed = public / "closed"
        closed.mkdir()
        closed.chmod(0o555)
        as_nobody(work)


def test_rules() -> None:
    found = os.stat("/")
    old = Entry(path=b"x", kind=Kind.DIR, mtime_ns=found.st_mtime_ns)
    new = Entry(path=b"x", kind=Kind.FILE, mtime_ns=found.st_mtime_ns + 1)
    assert [may_replace(rule, old, found) for rule in Overwrite] == [False, False, True]
    assert [may_replace(rule, new, found) for rule in Overwrite] == [False, True, True]
    assert same_kind(old, found)
    assert not same_kind(new, found)
