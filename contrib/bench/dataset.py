"""The data sets of the benchmark: deterministic where they are made, a real system tree where it is copied.

A set is made once and kept; `RECIPE` is raised with every change of what is made, so that an older one is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

RECIPE = 3
MIB = 1 << 20
RUN_BYTES = MIB
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


def make_disk(path: Path, size: int) -> None:
    """A disk image for the case `image`: half of it holes, the rest text and noise in runs of 8 MiB, all different."""
    block = 8 * MIB
    words = bytearray(text(11, block))
    with path.open("wb") as image:
        image.truncate(size)
        for number, offset in enumerate(range(0, size - block + 1, 2 * block)):
            image.seek(offset)
            if number % 2:
                image.write(noise(b"disk%d" % number, block))
            else:
                for at in range(0, block, 32 * 1024):
                    words[at : at + 16] = b"%08d%08d" % (number, at // 1024)
                image.write(words)


def dirty_runs(size: int, share: float, seed: int) -> list[tuple[int, int]]:
    """Places (offset, length) of 1 MiB that sum up to `share` of `size`, scattered; other ones for each seed."""
    slots = size // RUN_BYTES
    count = max(int(slots * share), 1)
    stride = 7919 if slots % 7919 else 7907
    return sorted(((seed * 104_729 + number * stride) % slots * RUN_BYTES, RUN_BYTES) for number in range(count))


def dirty(path: Path, share: float, seed: int) -> list[dict[str, int]]:
    """Overwrite `share` of an image with new noise; the map of what changed, as `--changed` takes it."""
    changed = []
    with path.open("r+b") as image:
        for start, length in dirty_runs(path.stat().st_size, share, seed):
            image.seek(start)
            image.write(os.urandom(length))
            changed.append({"start": start, "length": length})
    return changed


def make_mixed(mixed: Path, scale: float) -> None:
    """Everything a host may hold: its own system, noise, logs, a disk image."""
    make_system(mixed / "system", int(1500 * MIB * scale))
    (mixed / "random").mkdir()
    for number in range(4):
        (mixed / "random" / f"r{number}").write_bytes(noise(b"r%d" % number, int(224 * MIB * scale)))
    (mixed / "text").mkdir()
    for number in range(8):
        (mixed / "text" / f"t{number}.log").write_bytes(text(number, int(96 * MIB * scale)))
    make_image(mixed / "vm.img", int(2048 * MIB * scale), int(900 * MIB * scale))


def make_million(folder: Path, count: int) -> None:
    """`count` files of about 100 bytes, a thousand in a folder: for memory, not for speed."""
    for number in range(count):
        place = folder / f"m{number // 1000:05}"
        if number % 1000 == 0:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07}").write_bytes(b"%d " % number * 12)


def build(folder: Path, scale: float, wanted: list[str]) -> dict[str, Path]:
    """Make (once) the `wanted` ones of the sets mixed, small, image, wan, million below `folder`; their paths.

    In a process of its own: what a program starts counts its memory as their least.
    """
    subprocess.run([sys.executable, __file__, str(folder), str(scale), *wanted], check=True)
    return {name: folder / name for name in wanted}


def make(folder: Path, scale: float, wanted: list[str]) -> None:
    """The same, in this process."""
    for name in wanted:
        place = folder / name
        stamp = folder / f"{name}.made"
        recipe = json.dumps({"recipe": RECIPE, "scale": scale})
        if not stamp.exists() or stamp.read_text() != recipe:
            print(f"making the data set {name}")
            shutil.rmtree(place, ignore_errors=True)
            stamp.unlink(missing_ok=True)
            place.mkdir(parents=True)
            if name == "mixed":
                make_mixed(place, scale)
            elif name == "small":
                make_small(place, max(int(SMALL_FILES * min(scale, 1)), 100))
            elif name == "image":
                make_disk(place / "disk.raw", max(int(10 * 1024 * scale), 64) * MIB)
            elif name == "wan":
                size = max(int(320 * min(scale, 1)), 32)  # so much that start and end do not hide the line
                (place / "noise").write_bytes(noise(b"wan", size * MIB))
            elif name == "million":
                make_million(place, max(int(1_000_000 * min(scale, 1)), 1000))
            else:
                raise SystemExit(f"error: there is no set {name}\nhint: mixed, small, image, wan, million")
            stamp.write_text(recipe)


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


if __name__ == "__main__":
    make(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
