"""Blobs and local stores for tests of the store: made in a line, opened as often as wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ibs.core.blob import BlobEncoder
from ibs.core.keys import DataKeys
from ibs.ports.chunkstore import Address
from ibs.storage.local import LocalStore, Options
from ibs.storage.local.layout import chunk_name

UUID = "0c1f3f6e-7d53-4a0d-9a4e-111111111111"
SERVER = "server-a"
CREATED = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
SNAPSHOT = "host/web01/2026-11-22T19:00:00Z"
KEYS = DataKeys.from_root(bytes(range(32)))


def content(number: int, size: int = 3000) -> bytes:
    """Bytes that do not compress, the same for the same number."""
    return blake3(number.to_bytes(8, "big")).digest(length=size)


def make_blob(number: int, size: int = 3000, *, keys: DataKeys | None = None) -> tuple[Address, bytes]:
    """An address and a whole blob for it."""
    encoder = BlobEncoder(keys=keys)
    data = content(number, size)
    chunk_id = encoder.identify(data)
    return Address(encoder.domain, chunk_id), bytes(encoder.encode(data, chunk_id))


def other_blob(number: int, size: int = 3000) -> tuple[Address, bytes, bytes]:
    """One chunk in two blobs of different length: raw and compressed."""
    data = content(number, 64) * (size // 64)
    encoder = BlobEncoder()
    chunk_id = encoder.identify(data)
    small = bytes(encoder.encode(data, chunk_id))
    raw = bytearray(make_blob(number, len(data))[1])
    # The same header with the raw payload of these bytes: another writer might not compress.
    raw[48:80] = chunk_id
    raw[128:] = data
    raw[96:128] = blake3(bytes(raw[:96]) + data).digest()
    return Address(encoder.domain, chunk_id), small, bytes(raw)


@dataclass
class StoreBox:
    """A folder with a store in it. `open` as often as you like; what is still open is closed at the end."""

    path: Path
    opened: list[LocalStore] = field(default_factory=list)

    def create(self) -> StoreBox:
        LocalStore.create(str(self.path), "main", UUID, created=CREATED)
        return self

    def open(self, *, server: str = SERVER, **options: Any) -> LocalStore:
        store = LocalStore.open(str(self.path), UUID, server, name="main", options=Options(**options))
        self.opened.append(store)
        return store

    def reopen(self, store: LocalStore, *, clean: bool = False, **options: Any) -> LocalStore:
        store.close(clean=clean)
        return self.open(**options)

    def chunk_path(self, address: Address) -> Path:
        """Where a promoted chunk lies."""
        name = chunk_name(address)
        return self.path / "chunks" / name[:4] / name

    def incoming(self) -> list[Path]:
        """Files in the incoming folders."""
        return sorted(path for path in (self.path / "chunks" / "incoming").rglob("*") if path.is_file())

    def close(self) -> None:
        for store in self.opened:
            store.close(clean=False)


def publish(store: LocalStore, folder: str = SNAPSHOT, **extra: bytes | str) -> None:
    """A snapshot with the files of `extra` (`__` stands for a dot), a signature and a manifest."""
    files: dict[str, bytes | str] = {name.replace("__", "."): value for name, value in extra.items()}
    store.publish(
        folder, {**files, "manifest.sig": b"signature", "manifest.json": b"{}"}, ["manifest.sig", "manifest.json"]
    )


def flip(path: Path, at: int = -1) -> None:
    """Flip a bit of a file in place."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


@dataclass
class SmallDisk:
    """A small file system of its own, to fill up or to cut the power of. Needs root; else OSError."""

    kind: str
    folder: Path
    size: int
    inodes: int = 0

    @property
    def mounted(self) -> Path:
        return self.folder / "mnt"

    def make(self) -> SmallDisk:
        self.mounted.mkdir(parents=True)
        if self.kind != "tmpfs":
            image = self.folder / "image"
            with image.open("wb") as file:
                file.truncate(self.size)
            options = ["-N", str(self.inodes)] if self.inodes else []
            quiet = [] if self.kind == "exfat" else ["-q"]
            _run(f"mkfs.{self.kind}", *quiet, *options, str(image))
        self.mount()
        return self

    def mount(self) -> None:
        if self.kind == "tmpfs":
            inodes = f",nr_inodes={self.inodes}" if self.inodes else ""
            _run("mount", "-t", "tmpfs", "-o", f"size={self.size}{inodes},mode=700", "tmpfs", str(self.mounted))
        elif self.kind == "exfat":  # not every kernel has it
            _run("mount", "-t", "exfat-fuse", "-o", "loop", str(self.folder / "image"), str(self.mounted))
        else:
            _run("mount", "-o", "loop", str(self.folder / "image"), str(self.mounted))

    def unmount(self) -> None:
        _run("umount", str(self.mounted))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk: neither data nor the file system's journal. Every call fails."""
        _run("xfs_io", "-x", "-c", "shutdown", str(self.mounted))

    def fill(self, *, inodes: bool = False) -> None:
        """Use up every byte, or every inode, that is left."""
        foreign = self.mounted / "foreign"
        foreign.mkdir(exist_ok=True)
        number = len(list(foreign.iterdir()))
        try:
            while inodes:
                (foreign / f"f{number}").touch()
                number += 1
        except OSError:
            return
        for size in (1 << 16, 4096, 512):
            with (foreign / f"f{number}-{size}").open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * size) == size:
                        pass
                    os.fsync(file.fileno())
                except OSError:
                    pass

    def empty(self) -> None:
        """Give back what `fill` took."""
        shutil.rmtree(self.mounted / "foreign")


@contextmanager
def small_disk(kind: str, folder: Path, *, size: int, inodes: int = 0) -> Iterator[SmallDisk]:
    """A mounted `SmallDisk`. Skips the test, with the reason, where none can be had."""
    disk = SmallDisk(kind, folder, size, inodes)
    try:
        disk.make()
    except OSError as error:
        pytest.skip(f"no {kind} can be mounted here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.mounted)], check=False, capture_output=True)
