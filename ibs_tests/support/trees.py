"""Source trees for tests: everything a file system can hold, deterministic by seed."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

from ibs.core import limits


def has_tools() -> bool:
    """Whether `rich_tree` finds the programs it needs."""
    return shutil.which("setfacl") is not None and (os.geteuid() != 0 or shutil.which("setcap") is not None)


def rich_tree(root: Path, *, seed: int = 1, as_root: bool | None = None) -> None:
    """One of each: files of all sizes, sparse, links of both kinds, fifo, socket, odd names, modes, xattrs, ACLs.

    As root also devices, foreign owners and a capability.
    """
    rng = random.Random(seed)
    as_root = os.geteuid() == 0 if as_root is None else as_root
    root.mkdir(parents=True)
    for name, size in (
        ("empty", 0),
        ("one", 1),
        ("small", 4000),
        ("packed", 300_000),
        ("edge", 1 << 20),
        ("large", 5_500_000),
    ):
        (root / name).write_bytes(rng.randbytes(size))
    (root / "zeros").write_bytes(bytes(2_000_000))
    with (root / "sparse").open("wb") as file:
        file.truncate(40 << 20)
        for offset in (0, 8 << 20, 33 << 20):
            file.seek(offset)
            file.write(rng.randbytes(70_000))
    with (root / "hole-only").open("wb") as file:
        file.truncate(3 << 20)
    (root / "folder" / "deeper").mkdir(parents=True)
    (root / "folder" / "deeper" / "file").write_text("deep\n")
    (root / "empty-folder").mkdir()
    os.link(root / "small", root / "folder" / "second-name")
    (root / "link").symlink_to("folder/deeper/file")
    (root / "dangling").symlink_to("/no/such/place")
    (root / "folder-link").symlink_to("folder")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    odd = os.fsencode(root)
    for name in (b"latin-\xe9", b"new\nline", b"-dash", b"sp ace", b"\xff\xfe", "ünï".encode()):
        with open(odd + b"/" + name, "wb") as file:
            file.write(name)
    os.setxattr(root / "one", "user.note", b"\x00binary\xff")
    os.setxattr(root / "folder", "user.empty", b"")
    (root / "small").chmod(0o4711)
    (root / "folder").chmod(0o2775)
    (root / "empty-folder").chmod(0o1777)
    (root / "packed").chmod(0o400)
    subprocess.run(["setfacl", "-m", "u:12345:r--,g:54321:rw-", root / "edge"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", root / "folder" / "deeper"], check=True)
    if as_root:
        os.mknod(root / "char", 0o600 | 0o020000, os.makedev(1, 3))
        os.mknod(root / "block", 0o640 | 0o060000, os.makedev(7, 99))
        os.chown(root / "one", 12345, 54321)
        os.lchown(root / "link", 333, 444)
        subprocess.run(["setcap", "cap_net_raw+ep", root / "edge"], check=True)
    old = 1_000_000_000_123_456_789
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(old + number, old + number * 1_000_003), follow_symlinks=False)
    os.utime(root, ns=(old, old))


def many_files(root: Path, *, seed: int, count: int, size_max: int = 20_000) -> None:
    """`count` files in folders of fifty, with sizes up to `size_max` bytes."""
    rng = random.Random(seed)
    for number in range(count):
        folder = root / f"d{number // 50:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:05}").write_bytes(rng.randbytes(rng.randrange(size_max)))


def settle(root: Path) -> None:
    """Return when nothing below `root` is so young that the racy-clean rule reads it a second time."""
    newest = max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*")))
    while time.time_ns() - newest <= limits.RACY_WINDOW_NS:
        time.sleep(0.05)  # the clock of the file system is what is waited for


def make_disk(path: Path, *, seed: int, size: int = 24 << 20, runs: int = 3) -> None:
    """A sparse image with `runs` runs of 1 MiB of data, and an odd size."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size + 4097)
        for _ in range(runs):
            file.seek(rng.randrange(0, size - (1 << 20)) & ~4095)
            file.write(rng.randbytes(1 << 20))
