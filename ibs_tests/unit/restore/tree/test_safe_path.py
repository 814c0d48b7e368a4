"""Nothing leads out of the target, however deep it is and whatever lies in it."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.errors import FormatError
from ibs.restore.tree import safe_path
from ibs.restore.tree.safe_path import (
    Folder,
    Resolver,
    SafeRoot,
    best_resolver,
    check_path,
    rename_exclusive,
    resolve_by_component,
    resolve_by_kernel,
    shown,
)
from ibs_tests.support.users import public_folder

RESOLVERS = [resolve_by_kernel, resolve_by_component]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "path", [b"..", b"a/..", b"../a", b"a//b", b"/a", b"a/", b".", b"a/./b", b"a\0b", b"x" * 300_000]
)
def test_paths_that_lead_out_are_refused(path: bytes) -> None:
    with pytest.raises(FormatError):
        check_path(path)


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"...", b"..a/b..", b"\xff\n", b" "])
def test_odd_but_honest_paths_pass(path: bytes) -> None:
    assert check_path(path) == path


def test_shown_escapes_control_characters_and_is_bounded() -> None:
    assert shown(b"a\x1b[31m\n\xff\xc3\xa9") == "a\\x1b[31m\\n\\xffé"
    assert len(shown(b"x" * 100_000)) < 5000


@pytest.mark.parametrize("resolve", RESOLVERS)
def test_links_are_never_followed(tmp_path: Path, resolve: Resolver) -> None:
    (tmp_path / "target" / "real").mkdir(parents=True)
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (tmp_path / "target" / "out").symlink_to("../outside")
    (tmp_path / "target" / "in").symlink_to("real")
    (tmp_path / "target" / "abs").symlink_to("/")
    root = SafeRoot(str(tmp_path / "target"), resolver=resolve)
    for path in (b"out", b"out/inner", b"in", b"abs/etc"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            root.open_folder(path)
    os.close(root.open_folder(b"real"))
    root.close()


def test_magic_links_are_not_followed_either(tmp_path: Path) -> None:
    root = SafeRoot("/proc/self")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        root.open_folder(b"root")
    root.close()


def test_the_root_itself_may_be_reached_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    root = SafeRoot(str(tmp_path / "link"))
    assert os.path.samestat(os.fstat(root.fd), (tmp_path / "real").stat())
    root.close()


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"a\0"])
def test_a_folder_of_a_bad_name_is_never_opened(tmp_path: Path, name: bytes) -> None:
    root = SafeRoot(str(tmp_path))
    with pytest.raises(FormatError):
        root.acquire(Folder(root.root, name))
    root.close()


def test_the_fallback_is_taken_when_the_kernel_lacks_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_fd: int, _names: object) -> int:
        raise OSError(errno.ENOSYS, "")

    fd = os.open(tmp_path, os.O_RDONLY)
    assert best_resolver(fd) is resolve_by_kernel
    monkeypatch.setattr(safe_path, "resolve_by_kernel", missing)
    assert best_resolver(fd) is resolve_by_component
    os.close(fd)


@pytest.mark.parametrize("resolve", RESOLVERS)
def test_very_deep_trees_with_few_descriptors(resolve: Resolver) -> None:
    with public_folder() as path:
        go_deep(SafeRoot(str(path), resolver=resolve))


def go_deep(root: SafeRoot) -> None:
    before = open_descriptors()
    folder = root.root
    for _ in range(3000):
        with root.held(folder) as fd:
            os.mkdir(b"deep", dir_fd=fd)
        folder = Folder(folder, b"deep")
        assert open_descriptors() - before <= limits.RESTORE_OPEN_FOLDERS_MAX + 2
    assert folder.path() == b"/".join([b"deep"] * 3000)
    assert folder.path(b"leaf").endswith(b"deep/leaf")
    with root.held(folder) as fd:
        os.close(os.open(b"leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    # And all the way up again: the folders far above were closed meanwhile.
    node: Folder = folder
    while node.parent is not None:
        with root.held(node) as fd:
            assert fd >= 0
        root.forget(node)
        node = node.parent
    found = root.open_folder(folder.path())
    assert os.stat(b"leaf", dir_fd=found).st_size == 0
    os.close(found)
    root.close()
    assert open_descriptors() <= before


def test_a_descriptor_in_use_stays_valid_while_others_come_and_go(tmp_path: Path) -> None:
    root = SafeRoot(str(tmp_path))
    (tmp_path / "kept").mkdir()
    kept = Folder(root.root, b"kept")
    fd = root.acquire(kept)
    for number in range(3 * limits.RESTORE_OPEN_FOLDERS_MAX):
        (tmp_path / str(number)).mkdir()
        with root.held(Folder(root.root, b"%d" % number)):
            pass
    assert os.path.samestat(os.fstat(fd), (tmp_path / "kept").stat())
    root.release(kept)
    root.close()


def test_threads_share_folders(tmp_path: Path) -> None:
    root = SafeRoot(str(tmp_path))
    chain = [root.root]
    path = tmp_path
    for number in range(150):
        path = path / f"d{number}"
        path.mkdir()
        chain.append(Folder(chain[-1], b"d%d" % number))
    wrong: list[str] = []

    def look(step: int) -> None:
        for number in range(1500):
            folder = chain[1 + (number * step) % 150]
            with root.held(folder) as fd:
                if b"d%d" % folder.depth not in map(os.fsencode, _names(fd)) and folder.depth < 150:
                    wrong.append(f"{folder.depth}")

    threads = [threading.Thread(target=look, args=(step,)) for step in (1, 7, 77)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    root.close()


def _names(fd: int) -> list[str]:
    inner = os.open(".", os.O_RDONLY, dir_fd=fd)
    try:
        return os.listdir(inner)
    finally:
        os.close(inner)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("refused", [None, errno.EINVAL])
def test_rename_exclusive_never_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None, links: bool
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    if refused is not None:
        monkeypatch.setattr(safe_path, "_libc", _Refusing())
        monkeypatch.setattr(safe_path.ctypes, "get_errno", lambda: refused)
    (tmp_path / "new").write_text("new")
    (tmp_path / "there").write_text("there")
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        rename_exclusive(fd, b"new", b"there")
    assert (tmp_path / "there").read_text() == "there"
    rename_exclusive(fd, b"new", b"free")
    assert sorted(os.listdir(tmp_path)) == ["free", "there"]
    os.close(fd)


class _Refusing:
    """A C library whose renameat2 knows no flags, as on some network file systems."""

    def renameat2(self, *_: object) -> int:
        return -1
