"""Entries of every kind are made whole or not at all, and never where they should not be."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind
from ibs.errors import ChunkNotFound, CorruptChunk, DestinationNotWritable
from ibs.restore.tree.folders import Overwrite
from ibs_tests.support.restores import SyncRestore, folder
from ibs_tests.support.users import as_nobody, public_folder

ROOT = folder(b"")
OWN = {"uid": os.geteuid(), "gid": os.getegid()}


def special(path: bytes, kind: Kind, **values: object) -> Entry:
    given: dict[str, object] = {"mode": 0o600, "uid": os.geteuid(), "gid": os.getegid(), "mtime_ns": 10**18}
    return Entry(path=path, kind=kind, **{**given, **values})  # type: ignore[arg-type]


def leftovers(path: Path) -> list[str]:
    return [name for _, _, names in os.walk(path) for name in names if name.startswith(".ibs-restore")]


def test_kinds_that_anybody_may_make(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    reasons = restore.run(
        ROOT,
        restore.file(b"empty"),
        special(b"fifo", Kind.FIFO),
        restore.file(b"full", b"content", mode=0o444),
        special(b"link", Kind.SYMLINK, link=b"../anywhere"),
        special(b"socket", Kind.SOCKET),
    )
    assert reasons == {}
    assert (tmp_path / "empty").stat().st_size == 0
    assert (tmp_path / "full").read_bytes() == b"content"
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)
    assert os.readlink(tmp_path / "link") == "../anywhere"
    assert restore.report.counts.files == 2
    assert restore.report.counts.special == 2
    assert restore.report.counts.symlinks == 1


@pytest.mark.root
def test_devices_as_root(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    big = 0xFFF << 32 | 0xFFFFF
    reasons = restore.run(
        ROOT, special(b"b", Kind.BLOCK, rdev=8 << 32 | 1), special(b"c", Kind.CHAR, rdev=1 << 32 | 3),
        special(b"d", Kind.CHAR, rdev=big),
    )  # fmt: skip
    assert reasons == {}
    assert (tmp_path / "b").stat().st_rdev == os.makedev(8, 1)
    assert (tmp_path / "c").stat().st_rdev == os.makedev(1, 3)
    assert (tmp_path / "d").stat().st_rdev == os.makedev(0xFFF, 0xFFFFF)


def test_a_device_number_no_kernel_has_is_listed(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    reasons = restore.run(ROOT, special(b"c", Kind.CHAR, rdev=2**64 - 1), restore.file(b"f", b"x"))
    assert set(reasons) <= {"device-not-created", "not-created"}
    assert (tmp_path / "f").exists()


def test_an_ordinary_user_gets_all_but_devices_and_owners() -> None:
    def work() -> None:
        restore = SyncRestore(str(public / "t"))
        reasons = restore.run(
            folder(b"", uid=0, gid=0),
            special(b"char", Kind.CHAR, rdev=1 << 32 | 3),
            folder(b"d", uid=0, gid=0, mode=0o555),
            restore.file(b"d/f", b"data", uid=0, gid=0, mode=0o4755),
            special(b"d/fifo", Kind.FIFO),
            special(b"d/l", Kind.SYMLINK, link=b"x", uid=0, gid=0, mode=0o777),
        )
        assert reasons == {
            "device-not-created": ["char"],
            "owner-not-set": ["d/f", "d/l", "d", "."],
            "special-bits-not-set": ["d/f"],
        }
        assert (public / "t" / "d" / "f").read_bytes() == b"data"
        assert stat.S_IMODE((public / "t" / "d").stat().st_mode) == 0o555
        (public / "t" / "d").chmod(0o755)

    with public_folder() as public:
        as_nobody(work)


def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    mib = limits.MIB
    data = bytes(mib) + os.urandom(mib) + bytes(mib)
    chunk = restore.chunk(data)
    restore.run(
        ROOT,
        Entry(path=b"hole", kind=Kind.FILE, mode=0o644, size=1 << 40),
        Entry(
            path=b"sparse",
            kind=Kind.FILE,
            mode=0o644,
            size=50 * mib,
            extents=(Extent(chunk, 0, 3 * mib),),
            ranges=((10 * mib, 3 * mib),),
        ),
        restore.file(b"zeros", bytes(mib)),
    )
    assert (tmp_path / "hole").stat().st_size == 1 << 40
    assert (tmp_path / "hole").stat().st_blocks == 0
    assert (tmp_path / "sparse").stat().st_size == 50 * mib
    with (tmp_path / "sparse").open("rb") as file:
        file.seek(10 * mib)
        assert file.read(4 * mib) == data + bytes(mib)
        # Zeros inside the data range of a sparse file became a hole; those of a dense file did not.
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 11 * mib
    with (tmp_path / "zeros").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == mib


def test_a_link_to_what_no_system_takes_is_listed(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    links = [special(b"a", Kind.SYMLINK, link=b"x\0y"), special(b"b", Kind.SYMLINK, link=b"x" * 5000)]
    assert restore.run(ROOT, *links, special(b"c", Kind.SYMLINK, link=b"")) == {"not-created": ["a", "b", "c"]}
    assert os.listdir(tmp_path) == []


def test_a_size_no_file_system_has_is_listed(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    reasons = restore.run(
        ROOT, Entry(path=b"a", kind=Kind.FILE, size=2**63 - 1), Entry(path=b"b", kind=Kind.FILE, size=2**70)
    )
    assert set(reasons) == {"not-created"} or reasons == {}
    assert leftovers(tmp_path) == []


def test_big_files_are_written_in_spans_and_placed_once(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    pieces = [os.urandom(limits.CHUNK_PLAIN_BYTES_MAX) for _ in range(7)]
    extents = tuple(Extent(restore.chunk(piece), 0, len(piece)) for piece in pieces)
    entries = [ROOT, Entry(path=b"big", kind=Kind.FILE, mode=0o640, size=7 * len(pieces[0]), extents=extents, **OWN)]
    jobs = list(restore.planner.plan(entries))
    assert len(jobs) > 2
    for job in reversed(jobs):  # in any order
        assert not (tmp_path / "big").exists()
        restore.writer.run_span(job, restore.chunks)  # type: ignore[arg-type]
    assert (tmp_path / "big").read_bytes() == b"".join(pieces)
    assert stat.S_IMODE((tmp_path / "big").stat().st_mode) == 0o640
    assert restore.report.counts.files == 1
    assert restore.run() == {}


@pytest.mark.parametrize("size", [100, 3 * limits.CHUNK_PLAIN_BYTES_MAX])
@pytest.mark.parametrize(
    ("error", "reason"), [(CorruptChunk("ab", "rot"), "corrupt"), (ChunkNotFound("cd"), "chunk-not-found")]
)
def test_a_file_that_lacks_a_chunk_never_appears(
    tmp_path: Path, size: int, error: CorruptChunk | ChunkNotFound, reason: str
) -> None:
    restore = SyncRestore(str(tmp_path))
    half = size // 2
    good = [Extent(restore.chunk(os.urandom(n)), 0, n) for n in (min(half, 4 << 20), min(half, 4 << 20))]
    bad = Extent(restore.chunk(error, b"bad"), 0, 1)
    extents = (good[0], bad, good[1])
    entry = Entry(path=b"lost", kind=Kind.FILE, size=sum(each.length for each in extents), extents=extents)
    reasons = restore.run(ROOT, restore.file(b"a", b"a"), entry, restore.file(b"z", b"z"))
    assert reasons == {reason: ["lost"]}
    assert sorted(os.listdir(tmp_path)) == ["a", "z"]
    assert restore.report.first_loss == (error, "lost")


def test_an_extent_outside_its_chunk_is_a_loss(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    chunk = restore.chunk(b"short")
    entry = Entry(path=b"f", kind=Kind.FILE, size=6, extents=(Extent(chunk, 0, 6),))
    assert restore.run(ROOT, entry) == {"malformed": ["f"]}
    assert os.listdir(tmp_path) == []


# --- what exists ---


def existing(path: Path, text: str = "mine", mtime_ns: int = 5 * 10**17) -> None:
    path.write_text(text)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.mark.parametrize(
    ("overwrite", "archived_ns", "content", "reasons"),
    [
        (Overwrite.NEVER, 10**18, "mine", {"exists": ["f"]}),
        (Overwrite.NEVER, 5 * 10**17, "mine", {"unchanged": ["f"]}),
        (Overwrite.IF_NEWER, 10**18, "ours", {}),
        (Overwrite.IF_NEWER, 5 * 10**17, "mine", {"newer-kept": ["f"]}),
        (Overwrite.IF_NEWER, 10**17, "mine", {"newer-kept": ["f"]}),
        (Overwrite.ALWAYS, 10**17, "ours", {}),
    ],
)
def test_existing_files_follow_the_rule(
    tmp_path: Path, overwrite: Overwrite, archived_ns: int, content: str, reasons: dict[str, list[str]]
) -> None:
    existing(tmp_path / "f")
    restore = SyncRestore(str(tmp_path), overwrite=overwrite, fresh=False)
    assert restore.run(ROOT, restore.file(b"f", b"ours", mtime_ns=archived_ns)) == reasons
    assert (tmp_path / "f").read_text() == content
    assert leftovers(tmp_path) == []


def test_what_is_kept_is_not_even_fetched(tmp_path: Path) -> None:
    existing(tmp_path / "f")
    restore = SyncRestore(str(tmp_path), fresh=False)
    entry = restore.file(b"f", b"ours")
    jobs = list(restore.planner.plan([ROOT, entry])) + list(restore.planner.finish())
    assert jobs == []
    restore.run()


def test_what_appears_meanwhile_is_kept_too(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    jobs = [*restore.planner.plan([ROOT, restore.file(b"f", b"ours")]), *restore.planner.finish()]
    existing(tmp_path / "f")
    for job in jobs:
        restore.writer.run_batch(job, restore.chunks)  # type: ignore[arg-type]
    assert (tmp_path / "f").read_text() == "mine"
    assert restore.run() == {"exists": ["f"]}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("overwrite", [Overwrite.ALWAYS, Overwrite.NEVER])
def test_a_link_in_the_target_is_never_written_through(tmp_path: Path, overwrite: Overwrite) -> None:
    target = tmp_path / "t"
    target.mkdir()
    existing(tmp_path / "victim")
    (target / "f").symlink_to("../victim")
    (target / "g").symlink_to("../new")
    restore = SyncRestore(str(target), overwrite=overwrite, fresh=False)
    restore.run(ROOT, restore.file(b"f", b"ours"), restore.file(b"g", b"ours"))
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "new").exists()
    assert (target / "f").is_symlink() == (overwrite is Overwrite.NEVER)


def test_links_of_the_archive_are_not_followed_by_what_comes_after(tmp_path: Path) -> None:
    """An archive that places a link and then writes below it: no reader lets that pass, and no writer either."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "t"
    restore = SyncRestore(str(target))
    reasons = restore.run(
        ROOT,
        special(b"d", Kind.SYMLINK, link=os.fsencode(outside), mode=0o777),
        restore.file(b"d/evil", b"x"),
        folder(b"d/sub"),
        restore.file(b"d/sub/evil", b"x"),
    )
    assert "malformed" in reasons
    assert os.listdir(outside) == []


def test_a_link_swapped_in_for_a_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "t"
    restore = SyncRestore(str(target))
    jobs = list(restore.planner.plan([ROOT, folder(b"d"), restore.file(b"d/f", b"x")]))
    jobs += list(restore.planner.finish())
    restore.root.forget(restore.planner._top or restore.root.root)
    # Somebody with rights in the target swaps the folder between two steps.
    for held in list(restore.root._idle):
        restore.root.forget(held)
    (target / "d").rename(target / "moved")
    (target / "d").symlink_to("../outside")
    for job in jobs:
        restore.writer.run_batch(job, restore.chunks)  # type: ignore[arg-type]
    assert os.listdir(outside) == []
    assert "not-created" in restore.run()


@pytest.mark.parametrize(
    ("make", "overwrite", "replaced"),
    [
        (lambda path: path.mkdir(), Overwrite.ALWAYS, True),
        (lambda path: (path.mkdir(), (path / "kept").touch()), Overwrite.ALWAYS, False),
        (lambda path: path.mkdir(), Overwrite.NEVER, False),
        (os.mkfifo, Overwrite.ALWAYS, True),
        (os.mkfifo, Overwrite.NEVER, False),
    ],
)
def test_things_of_another_kind_in_the_way(
    tmp_path: Path, make: Callable[[Path], object], overwrite: Overwrite, replaced: bool
) -> None:
    make(tmp_path / "f")
    restore = SyncRestore(str(tmp_path), overwrite=overwrite, fresh=False)
    reasons = restore.run(ROOT, restore.file(b"f", b"ours"))
    assert (tmp_path / "f").is_file() == replaced
    assert bool(reasons) != replaced
    assert leftovers(tmp_path) == []


def test_new_files_in_old_folders_inherit_no_acl(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", tmp_path], check=True)
    restore = SyncRestore(str(tmp_path), fresh=False)
    restore.run(ROOT, restore.file(b"f", b"x", mode=0o640))
    assert os.listxattr(tmp_path / "f") == []
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


# --- hard links ---


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    reasons = restore.run(
        ROOT,
        folder(b"a", mode=0o555),
        restore.file(b"a/first", b"data"),
        folder(b"b"),
        Entry(path=b"b/second", kind=Kind.HARDLINK, link=b"a/first"),
        special(b"sym", Kind.SYMLINK, link=b"x", mode=0o777),
        Entry(path=b"sym2", kind=Kind.HARDLINK, link=b"sym"),
    )
    assert reasons == {}
    assert os.path.samefile(tmp_path / "a" / "first", tmp_path / "b" / "second")
    assert os.readlink(tmp_path / "sym2") == "x"
    assert (tmp_path / "sym2").lstat().st_ino == (tmp_path / "sym").lstat().st_ino
    assert restore.report.counts.hard_links == 2


@pytest.mark.parametrize("link", [b"../victim", b"/etc/passwd", b"a/../../victim", b"", b".", b"x\0"])
def test_a_hard_link_that_leads_out_is_refused(tmp_path: Path, link: bytes) -> None:
    existing(tmp_path / "victim")
    restore = SyncRestore(str(tmp_path / "t"))
    reasons = restore.run(ROOT, Entry(path=b"l", kind=Kind.HARDLINK, link=link))
    assert not (tmp_path / "t" / "l").exists()
    assert reasons == {"malformed": ["l"]} or restore.unresolved
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_a_hard_link_never_goes_through_a_link(tmp_path: Path) -> None:
    existing(tmp_path / "victim")
    restore = SyncRestore(str(tmp_path / "t"))
    restore.run(
        ROOT,
        special(b"d", Kind.SYMLINK, link=b"..", mode=0o777),
        Entry(path=b"l", kind=Kind.HARDLINK, link=b"d/victim"),
    )
    assert [item.entry.path for item in restore.unresolved] == [b"l"]
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_no_link_is_made_to_something_else_of_that_name(tmp_path: Path) -> None:
    existing(tmp_path / "first")
    restore = SyncRestore(str(tmp_path), fresh=False)
    restore.run(ROOT, restore.file(b"first", b"ours"), Entry(path=b"second", kind=Kind.HARDLINK, link=b"first"))
    assert [item.entry.path for item in restore.unresolved] == [b"second"]
    assert (tmp_path / "first").stat().st_nlink == 1


def test_nor_to_a_file_whose_data_is_lost(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    restore.chunk(CorruptChunk("ab", "rot"), b"bad")
    bad = Entry(path=b"first", kind=Kind.FILE, size=1, extents=(Extent(list(restore.chunks)[-1], 0, 1),))
    restore.run(ROOT, bad, Entry(path=b"second", kind=Kind.HARDLINK, link=b"first"))
    assert [item.entry.path for item in restore.unresolved] == [b"second"]


def test_links_to_what_was_not_asked_for_need_their_own_copy(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path), patterns=["b"])
    restore.run(
        ROOT,
        folder(b"a"),
        restore.file(b"a/first", b"data"),
        folder(b"b"),
        Entry(path=b"b/second", kind=Kind.HARDLINK, link=b"a/first"),
    )
    assert [item.entry.path for item in restore.unresolved] == [b"b/second"]
    restore.writer.moved(b"a/first", b"b/second")
    assert restore.writer._moved == {b"a/first": b"b/second"}


def test_a_second_run_finds_its_links_made(tmp_path: Path) -> None:
    for resumed in (False, True):
        restore = SyncRestore(str(tmp_path), fresh=not resumed, resumed=resumed)
        reasons = restore.run(
            ROOT,
            restore.file(b"first", b"data", mtime_ns=10**18),
            Entry(path=b"second", kind=Kind.HARDLINK, link=b"first", mtime_ns=10**18),
        )
        assert reasons == ({"unchanged": ["first", "second"]} if resumed else {})
        if not resumed:
            (tmp_path / "second").unlink()
            (tmp_path / "second").hardlink_to(tmp_path / "first")


def test_a_resumed_run_links_to_what_the_first_one_restored(tmp_path: Path) -> None:
    existing(tmp_path / "first", "data", 10**18)
    restore = SyncRestore(str(tmp_path), fresh=False, resumed=True)
    restore.run(
        ROOT,
        restore.file(b"first", b"data", mtime_ns=10**18),
        Entry(path=b"second", kind=Kind.HARDLINK, link=b"first"),
    )
    assert os.path.samefile(tmp_path / "first", tmp_path / "second")


def test_always_on_a_pair_that_is_linked_already_leaves_nothing_behind(tmp_path: Path) -> None:
    existing(tmp_path / "first")
    (tmp_path / "second").hardlink_to(tmp_path / "first")
    restore = SyncRestore(str(tmp_path), fresh=False, overwrite=Overwrite.ALWAYS)
    restore.run(ROOT, restore.file(b"first", b"ours"), Entry(path=b"second", kind=Kind.HARDLINK, link=b"first"))
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]
    assert os.path.samefile(tmp_path / "first", tmp_path / "second")
    assert (tmp_path / "second").read_text() == "ours"


# --- the target fails ---


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "open"])
def test_a_full_disk_ends_the_restore_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    restore = SyncRestore(str(tmp_path))
    chunk = restore.chunk(b"data")
    sparse = Entry(path=b"f", kind=Kind.FILE, size=100, extents=(Extent(chunk, 0, 4),), ranges=((10, 4),))
    jobs = list(restore.planner.plan([ROOT, sparse])) + list(restore.planner.finish())
    real = getattr(os, call)

    def full(*args: object, **more: object) -> object:
        if call != "open" or (isinstance(args[0], bytes) and b".tmp" in args[0]):
            raise OSError(errno.ENOSPC, "")
        return real(*args, **more)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DestinationNotWritable, match=r"no space left .* \(at f\)"):
        restore.writer.run_batch(jobs[0], restore.chunks)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    restore.root.close()


def test_a_span_that_fails_never_lets_the_file_be_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = SyncRestore(str(tmp_path))
    data = os.urandom(limits.CHUNK_PLAIN_BYTES_MAX)
    extents = (Extent(restore.chunk(data), 0, len(data)),) * 6
    jobs = list(restore.planner.plan([ROOT, Entry(path=b"f", kind=Kind.FILE, size=6 * len(data), extents=extents)]))
    assert len(jobs) == 3
    restore.writer.run_span(jobs[0], restore.chunks)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "")))
        with pytest.raises(DestinationNotWritable, match="input/output error"):
            restore.writer.run_span(jobs[1], restore.chunks)  # type: ignore[arg-type]
    restore.writer.run_span(jobs[2], restore.chunks)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []
    restore.root.close()


def test_abandon_removes_what_is_open(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    data = os.urandom(limits.CHUNK_PLAIN_BYTES_MAX)
    extents = (Extent(restore.chunk(data), 0, len(data)),) * 6
    jobs = list(restore.planner.plan([ROOT, Entry(path=b"f", kind=Kind.FILE, size=6 * len(data), extents=extents)]))
    restore.writer.run_span(jobs[0], restore.chunks)  # type: ignore[arg-type]
    assert len(leftovers(tmp_path)) == 1
    restore.writer.abandon()
    assert os.listdir(tmp_path) == []
    restore.root.close()


def test_sockets_are_there_without_a_listener(tmp_path: Path) -> None:
    restore = SyncRestore(str(tmp_path))
    restore.run(ROOT, special(b"s", Kind.SOCKET, mode=0o777))
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(tmp_path / "s"))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes_are_as_archived_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    modes = [0o000, 0o400, 0o444, 0o600, 0o644, 0o666, 0o755, 0o777, 0o4755]
    restore = SyncRestore(str(tmp_path))
    before = os.umask(mask)
    try:
        reasons = restore.run(
            ROOT,
            folder(b"d"),
            *(restore.file(b"d/%04o" % mode, b"x", mode=mode) for mode in modes),
        )
    finally:
        os.umask(before)
    assert reasons == {}
    assert [stat.S_IMODE((tmp_path / "d" / f"{mode:04o}").stat().st_mode) for mode in modes] == modes
