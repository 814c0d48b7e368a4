"""The mixed data set of the benchmark: deterministic where it is made, a real system tree where it is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

MIB = 1 << 20
SMALL_FILES = 50_000
SYSTEM_PLACES = ("/usr/lib/python3", "/usr/share", "/usr/lib/x86_64-linux-gnu", "/usr/include", "/usr/lib", "/usr/bin")


def noise(seed: bytes, size: int) -> bytes:
    """`size` deterministic bytes that no compressor can shrink."""
    return hashlib.shake_128(seed).digest(size)


def text(seed: int, size: int) -> bytes:
    """`size` bytes of log-like text, about four to one under zstd."""
    lines, total, n = [], 0, 0
    while total < size:
        tag = hashlib.blake2b(f"{seed}/{n}".encode(), digest_size=12).hexdigest()
        head = f"2026-11-{n % 28 + 1:02} host{seed % 17} service[{n % 4096}]"
        line = f"{head}: request {tag} answered in {n % 997} ms\n".encode()
        lines.append(line)
        total += len(line)
        n += 1
    return b"".join(lines)[:size]


def make_system(folder: Path, size: int) -> None:
    """Copy about `size` bytes of this system's own files."""
    total = 0
    for place in SYSTEM_PLACES:
        for path in sorted(Path(place).rglob("*")):
            if total >= size:
                return
            try:
                if path.is_symlink() or not path.is_file() or path.stat().st_size > 64 * MIB:
                    continue
                target = folder / path.relative_to("/")
                if target.exists():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
                total += target.stat().st_size
            except OSError:
                continue


def make_image(path: Path, size: int, filled: int) -> None:
    """A sparse file like a VM's disk: half the filled part text-like, half noise, in runs of 8 MiB."""
    with path.open("wb") as image:
        image.truncate(size)
        step = max(size // max(filled // (8 * MIB), 1), 8 * MIB)
        for number, offset in enumerate(range(0, size - 8 * MIB, step)):
            image.seek(offset)
            image.write(noise(b"image%d" % number, 8 * MIB) if number % 2 else text(number, 8 * MIB))


def make_small(folder: Path, count: int) -> None:
    """`count` files of 1-20 KiB in folders of 100."""
    block = noise(b"small", 64 * MIB)
    words = text(7, 4 * MIB)
    for number in range(count):
        place = folder / f"d{number // 100:04}"
        if number % 100 == 0:
            place.mkdir(parents=True, exist_ok=True)
        size = 1024 + (number * 7919) % (19 * 1024)
        at = (number * 104_729) % (len(words) - size)
        start = (number * 1_299_709) % (len(block) - size)
        body = words[at : at + size // 2] + block[start : start + size - size // 2]
        (place / f"f{number:05}.dat").write_bytes(b"%08d" % number + body)


def build(folder: Path, scale: float) -> dict[str, Path]:
    """Make (once) the sets `mixed` and `small` below `folder`; return their paths."""
    mixed, small = folder / "mixed", folder / "small"
    stamp = folder / f"made-{scale}"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        mixed.mkdir(parents=True)
        make_system(mixed / "system", int(1500 * MIB * scale))
        (mixed / "random").mkdir()
        for number in range(4):
            (mixed / "random" / f"r{number}").write_bytes(noise(b"r%d" % number, int(224 * MIB * scale)))
        (mixed / "text").mkdir()
        for number in range(8):
            (mixed / "text" / f"t{number}.log").write_bytes(text(number, int(96 * MIB * scale)))
        make_image(mixed / "vm.img", int(2048 * MIB * scale), int(900 * MIB * scale))
        make_small(small, max(int(SMALL_FILES * min(scale, 1)), 100))
        stamp.touch()
    return {"mixed": mixed, "small": small}


def change_one_percent(folder: Path) -> int:
    """Rewrite the middle of every hundredth file; return how many were changed."""
    changed = 0
    for number, path in enumerate(
        sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    ):
        if number % 100 == 50:
            with path.open("r+b") as file:
                file.seek(path.stat().st_size // 2)
                file.write(os.urandom(64))
            changed += 1
    return changed
