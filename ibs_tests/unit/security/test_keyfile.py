"""Keyfiles on a real disk: sealed, whole or absent, never overwritten; every way of being wrong is told apart."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibs.core import limits_keys
from ibs.core.keys import DataKeys
from ibs.errors import ConflictError, FormatError, NotFoundError, RefusedError, UsageError
from ibs.security import keyfile
from ibs.security.keyfile import Cost, Derivation, Keyfile, LoadedKey
from ibs_tests.support.stores import small_disk

ROOT = bytes(range(32))
CHEAP = Cost(1, 8192)


def loaded(**more: Any) -> LoadedKey:
    facts = {"mode": "encrypt", "comment": "web01", "created": "2026-01-01T00:00:00Z", "has_passphrase": True} | more
    return LoadedKey(DataKeys.from_root(ROOT), **facts)


def sealed(passphrase: str = "correct horse") -> Keyfile:
    return keyfile.seal(loaded(), passphrase, cost=CHEAP)


def never() -> str:
    raise AssertionError("no passphrase is needed")


def test_it_opens_with_its_passphrase_and_no_other() -> None:
    file = sealed()
    opened = keyfile.open_key(file, lambda: "correct horse")
    assert opened == loaded()
    assert opened.keys.root == ROOT
    for wrong in ("", "correct horse ", "Correct horse", "x" * 500):
        with pytest.raises(RefusedError, match="does not open"):
            keyfile.open_key(file, lambda wrong=wrong: wrong)
    assert ROOT.hex() not in repr(opened)
    raw = keyfile.encode(file)
    assert ROOT not in raw
    assert keyfile.decode(raw) == file
    assert sealed().root != file.root  # its own salt and nonce each time


def test_without_a_passphrase_none_is_asked_for() -> None:
    file = keyfile.seal(loaded(mode="sign-only"), "")
    opened = keyfile.open_key(file, never)
    assert (opened.keys.root, opened.mode, opened.has_passphrase) == (ROOT, "sign-only", False)


@pytest.mark.parametrize(
    "change", [{"mode": "sign-only"}, {"comment": "other"}, {"created": ""}, {"fingerprint": "aa"}], ids=str
)
def test_what_stands_beside_the_sealed_root_cannot_be_changed(change: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="does not open"):
        keyfile.open_key(msgspec.structs.replace(sealed(), **change), lambda: "correct horse")


def test_a_damaged_file_is_called_that() -> None:
    clear = keyfile.seal(loaded(), "")
    for change in ({"root": "AAAA"}, {"root": "!"}, {"root": "A" * 43 + "="}, {"fingerprint": "aa"}):
        with pytest.raises(FormatError, match="damaged"):
            keyfile.open_key(msgspec.structs.replace(clear, **change), never)
    file = sealed()
    assert file.derivation is not None
    short = msgspec.structs.replace(file.derivation, salt="AAAA")
    for change in ({"root": "AAAA"}, {"derivation": short}):
        with pytest.raises(FormatError, match="damaged"):
            keyfile.open_key(msgspec.structs.replace(file, **change), lambda: "x")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 9000, b"x" * 20_000, b'{"type":"x","fingerprint":"","root":""}'],
    ids=lambda data: repr(data[:12]),
)
def test_hostile_bytes_are_refused_before_anything_is_spent(data: bytes) -> None:
    with pytest.raises(FormatError):
        keyfile.decode(data)


@pytest.mark.parametrize("change", [{"operations": 0}, {"operations": 1000}, {"memory_bytes": 1 << 40}, {"name": "x"}])
def test_a_file_cannot_ask_for_endless_work(change: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(sealed())
    raw["derivation"] |= change
    with pytest.raises(FormatError):
        keyfile.decode(msgspec.json.encode(raw))


@pytest.mark.parametrize("name", ["comment", "created", "fingerprint"])
def test_lines_are_lines(name: str) -> None:
    with pytest.raises(FormatError, match="no printable line"):
        keyfile.decode(keyfile.encode(msgspec.structs.replace(sealed(), **{name: "a\nb"})))


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatError, match="format 2"):
        keyfile.decode(keyfile.encode(msgspec.structs.replace(sealed(), format=2)))


def test_it_is_private_from_its_first_moment_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "web01.key"
    before = os.umask(0)
    try:
        keyfile.write(path, sealed())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    with pytest.raises(ConflictError, match="exists already"):
        keyfile.write(path, sealed("other"))
    with pytest.raises(ConflictError):
        keyfile.check_free(path)
    assert path.read_bytes() == first
    keyfile.write(path, sealed("other"), replace=True)
    assert keyfile.open_key(keyfile.read(path), lambda: "other").keys.root == ROOT
    assert [each.name for each in path.parent.iterdir()] == ["web01.key"]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConflictError):
        keyfile.write(tmp_path / "link", sealed())


def no_links(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "web01.key"
    keyfile.write(path, sealed())
    first = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError, match="exists already"):
        keyfile.write(path, sealed())
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConflictError):
        keyfile.write(tmp_path / "link", sealed())
    assert path.read_bytes() == first
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "web01.key"]

    def broken(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(UsageError, match="Input/output error"):
        keyfile.write(tmp_path / "other", sealed())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "web01.key"]


def test_an_error_that_says_nothing_of_links_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(UsageError, match="No space left"):
        keyfile.write(tmp_path / "k", sealed())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "kept"), [(errno.EINVAL, True), (errno.EOPNOTSUPP, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kept: bool
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if kept:
        keyfile.write(tmp_path / "k", sealed())
    else:
        with pytest.raises(UsageError, match="cannot write"):
            keyfile.write(tmp_path / "k", sealed())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
def test_a_memory_stick(tmp_path: Path) -> None:
    """exFAT: no hard links, and no permissions worth the name."""
    with small_disk("exfat", tmp_path / "disk", size=16 << 20) as disk:
        path = disk.mounted / "web01.key"
        keyfile.write(path, sealed())
        assert keyfile.open_key(keyfile.read(path), lambda: "correct horse").keys.root == ROOT
        with pytest.raises(ConflictError):
            keyfile.write(path, sealed("other"))
        keyfile.write(path, sealed("other"), replace=True)
        assert keyfile.open_key(keyfile.read(path), lambda: "other").keys.root == ROOT
        with pytest.raises(RefusedError, match="lets everybody read it"):
            keyfile.write(disk.mounted / "open.key", keyfile.seal(loaded(), ""))
        assert [each.name for each in disk.mounted.iterdir()] == ["web01.key"]


def test_reading(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no keyfile"):
        keyfile.read(tmp_path / "none")
    with pytest.raises(FormatError, match="not a file"):
        keyfile.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="not a file"):
        keyfile.read(tmp_path / "pipe")
    path = tmp_path / "open.key"
    keyfile.write(path, keyfile.seal(loaded(), ""))
    path.chmod(0o644)
    with pytest.raises(RefusedError, match="others may read it"):
        keyfile.read(path)
    keyfile.write(path, sealed(), replace=True)
    path.chmod(0o644)  # it is sealed: a copy in a backup or a parcel is no danger by itself
    assert keyfile.read(path).fingerprint == sealed().fingerprint


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write keyfile"):
        keyfile.write(tmp_path / "file" / "a.key", sealed())


def test_bounds() -> None:
    with pytest.raises(UsageError, match="at most"):
        keyfile.seal(loaded(), "x" * 2000, cost=CHEAP)
    assert Cost() == Cost(limits_keys.ARGON_OPERATIONS, limits_keys.ARGON_MEMORY_BYTES)
    assert Derivation(salt="", operations=3, memory_bytes=1 << 28).name == "argon2id"
