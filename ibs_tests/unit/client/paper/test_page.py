"""The page: what it says of its key, its QR code, and the file it is put into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.client.paper import page as pages
from ibs.core import paperkey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import ConflictError, FormatError, UsageError
from ibs.security.keyfile import LoadedKey

KEYS = DataKeys.from_root(bytes(range(32)))
KEY = LoadedKey(KEYS, "encrypt", "web01", "2026-01-01T00:00:00Z", has_passphrase=True)
PAGE = pages.page_of(KEY, printed="2026-02-01T00:00:00Z")


def test_a_page_holds_the_key_and_does_not_show_it() -> None:
    assert paperkey.decode(PAGE.content).root == KEYS.root
    assert KEYS.root.hex() not in repr(PAGE)
    facts = dict(PAGE.facts)
    assert "".join(facts["Fingerprint"]) == hex_fingerprint(KEYS.fingerprint) == pages.fingerprint_of(PAGE.content)
    assert facts["Key"] == ["web01"]
    assert PAGE.checksum.replace(" ", "") == PAGE.content.hex()[-12:]
    with pytest.raises(FormatError):
        pages.fingerprint_of(bytes(40))


def test_the_qr_code_has_its_quiet_zone_and_the_strongest_correction() -> None:
    modules = pages.qr_modules(PAGE)
    assert len(modules) == len(modules[0]) == 45 + 8  # version 7, H
    for edge in (*modules[:4], *modules[-4:], *(row[:4] + row[-4:] for row in modules)):
        assert not any(edge)
    assert sum(map(sum, modules)) > 500


def test_a_page_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "page"
    assert pages.write(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600
    for name in ("page", "link"):
        if name == "link":
            os.symlink("elsewhere", tmp_path / name)
        with pytest.raises(ConflictError, match="exists already"):
            pages.write(tmp_path / name, b"other")
    assert path.read_bytes() == b"secret"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(UsageError, match="cannot write"):
        pages.write(tmp_path / "none" / "page", b"")


def test_where_permissions_mean_nothing_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: real(path, flags, mode | 0o044))
    assert not pages.write(tmp_path / "page", b"secret")


def test_a_page_that_does_not_fit_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        pages.write(tmp_path / "page", b"secret")
    assert list(tmp_path.iterdir()) == []
