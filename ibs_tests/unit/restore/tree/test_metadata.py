"""Metadata is applied in an order that is safe, and what cannot be is told."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core.tree import Entry, Kind
from ibs.restore.tree.metadata import ACL_ACCESS, ACL_DEFAULT, CAPABILITY, MetadataWriter
from ibs.restore.tree.report import Reason, RestoreReport
from ibs_tests.support.users import NOBODY, as_nobody, public_folder

CAP = bytes.fromhex("0100000200200000000000000000000000000000")


def entry(kind: Kind = Kind.FILE, **values: object) -> Entry:
    given: dict[str, object] = {"mode": 0o640, "uid": os.geteuid(), "gid": os.getegid(), "mtime_ns": 10**18 + 7}
    return Entry(path=b"f", kind=kind, **{**given, **values})  # type: ignore[arg-type]


def apply(path: Path, what: Entry) -> list[tuple[Reason, str]]:
    """Apply to a file; return what was reported."""
    report = RestoreReport()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    MetadataWriter(report).to_descriptor(fd, what, b"f")
    os.close(fd)
    return [(problem.reason, detail) for problem in report.problems() for _, detail in problem.paths]


def test_mode_times_and_attributes(tmp_path: Path) -> None:
    assert apply(tmp_path / "f", entry(mode=0o1604, xattrs=((b"user.a", b"\0\1"), (b"user.b", b"")))) == []
    found = (tmp_path / "f").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o1604, 10**18 + 7)
    assert os.getxattr(tmp_path / "f", b"user.a") == b"\0\1"
    assert os.getxattr(tmp_path / "f", b"user.b") == b""


def test_times_before_1970(tmp_path: Path) -> None:
    assert apply(tmp_path / "f", entry(mtime_ns=-1_500_000_000)) == []
    assert (tmp_path / "f").stat().st_mtime_ns == -1_500_000_000


@pytest.mark.root
def test_owner_and_set_id_bits_as_root(tmp_path: Path) -> None:
    assert apply(tmp_path / "f", entry(uid=1234, gid=4321, mode=0o6755)) == []
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o6755)


@pytest.mark.root
def test_a_capability_survives_the_change_of_owner(tmp_path: Path) -> None:
    assert apply(tmp_path / "f", entry(uid=1234, mode=0o755, xattrs=((CAPABILITY, CAP),))) == []
    assert os.getxattr(tmp_path / "f", CAPABILITY) == CAP


def test_an_acl_comes_after_the_mode(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    subprocess.run(["setfacl", "-m", "u:12345:r--,m::r--", tmp_path / "model"], check=True)
    (tmp_path / "model").chmod(0o640)
    acl = os.getxattr(tmp_path / "model", ACL_ACCESS)
    assert apply(tmp_path / "f", entry(mode=0o640, xattrs=((ACL_ACCESS, acl),))) == []
    assert os.getxattr(tmp_path / "f", ACL_ACCESS) == acl


@pytest.mark.parametrize("owner", [{"uid": 0xFFFFFFFF}, {"gid": 0xFFFFFFFF}])
def test_the_owner_nobody_can_have_is_not_set(tmp_path: Path, owner: dict[str, int]) -> None:
    ((reason, _), *_) = apply(tmp_path / "f", entry(**owner))
    assert reason is Reason.OWNER


def test_set_id_bits_never_serve_another_owner(tmp_path: Path) -> None:
    found = apply(tmp_path / "f", entry(uid=0xFFFFFFFF, gid=0xFFFFFFFF, mode=0o6755))
    assert [reason for reason, _ in found] == [Reason.OWNER, Reason.SPECIAL_BITS]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o755


def test_bad_attributes_are_listed_by_name(tmp_path: Path) -> None:
    found = apply(tmp_path / "f", entry(xattrs=((ACL_ACCESS, b"junk"), (CAPABILITY, b"junk"), (b"nonsense", b"x"))))
    assert {reason for reason, _ in found} == {Reason.ACL, Reason.CAPABILITY, Reason.XATTR}
    assert any(detail.startswith("nonsense: ") for _, detail in found)


def test_a_nul_in_an_attribute_name_is_listed(tmp_path: Path) -> None:
    assert [reason for reason, _ in apply(tmp_path / "f", entry(xattrs=((b"user.\0", b"x"),)))] == [Reason.XATTR]


def test_inherited_acls_are_removed_unless_archived(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", tmp_path], check=True)
    inner = tmp_path / "inner"
    inner.mkdir()
    assert os.listxattr(inner)
    acl = os.getxattr(inner, ACL_DEFAULT)
    fd = os.open(inner, os.O_RDONLY)
    writer = MetadataWriter(RestoreReport())
    writer.strip_acls(fd, keep=entry(Kind.DIR, xattrs=((ACL_DEFAULT, acl),)))
    assert [os.fsencode(name) for name in os.listxattr(inner)] == [ACL_DEFAULT]
    writer.strip_acls(fd)
    os.close(fd)
    assert os.listxattr(inner) == []


def test_a_link_keeps_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    before = (tmp_path / "target").stat()
    (tmp_path / "f").symlink_to("target")
    report = RestoreReport()
    fd = os.open(tmp_path / "f", os.O_PATH | os.O_NOFOLLOW)
    # The name leads elsewhere by now: the node that is open is meant.
    (tmp_path / "f").rename(tmp_path / "moved")
    (tmp_path / "f").symlink_to("target")
    MetadataWriter(report).to_node(fd, entry(Kind.SYMLINK, mode=0o777), b"f")
    os.close(fd)
    assert report.problems() == []
    assert (tmp_path / "moved").lstat().st_mtime_ns == 10**18 + 7
    assert (tmp_path / "f").lstat().st_mtime_ns != 10**18 + 7
    after = (tmp_path / "target").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == (before.st_mode, before.st_mtime_ns, before.st_uid)


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f", 0)
    report = RestoreReport()
    fd = os.open(tmp_path / "f", os.O_PATH | os.O_NOFOLLOW)
    MetadataWriter(report).to_node(fd, entry(Kind.FIFO, mode=0o612), b"f")  # would block if it were
    os.close(fd)
    assert report.problems() == []
    found = (tmp_path / "f").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o612, 10**18 + 7)


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as path:
        yield path


def test_an_ordinary_user_gets_what_he_may_and_a_list_of_the_rest(public: Path) -> None:

    def work() -> None:
        attributes = ((b"trusted.x", b"1"), (b"user.note", b"kept"), (CAPABILITY, CAP))
        found = apply(public / "f", entry(uid=0, gid=0, mode=0o4444, xattrs=attributes))
        reasons = {reason for reason, _ in found}
        assert reasons == {Reason.OWNER, Reason.SPECIAL_BITS, Reason.XATTR, Reason.CAPABILITY}
        stats = (public / "f").stat()
        assert stat.S_IMODE(stats.st_mode) == 0o444
        assert stats.st_mtime_ns == 10**18 + 7
        # Set although the archived mode would forbid it afterwards.
        assert os.getxattr(public / "f", b"user.note") == b"kept"

    as_nobody(work)


@pytest.mark.root
def test_nobody_keeps_set_id_bits_of_his_own(public: Path) -> None:

    def work() -> None:
        assert apply(public / "f", entry(uid=NOBODY, gid=NOBODY, mode=0o6711)) == []
        assert stat.S_IMODE((public / "f").stat().st_mode) == 0o6711

    as_nobody(work)
