"""Version 1 of paper keys, for ever: read by our code and by a second reader made from formats.md §1.

The pages are never regenerated: whoever takes one out of a safe after years has to get in.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from ibs.client.paper import page as pages
from ibs.client.paper import source
from ibs.core import paperkey, papertyped
from ibs.core.paperkey import PaperKey

GOLDEN = Path(__file__).parent / "golden"
PAGE = (GOLDEN / "paperkey.txt").read_text(encoding="utf-8")
QR = (GOLDEN / "paperkey.qr").read_text(encoding="utf-8").strip()
ROOT = bytes(range(32))


def crc_ccitt(data: bytes) -> int:
    """The document's checksum, bit by bit."""
    register = 0xFFFF
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1) ^ (0x1021 if register & 0x8000 else 0)
            register &= 0xFFFF
    return register


def test_ours_reads_it() -> None:
    content = papertyped.read(PAGE)
    assert paperkey.decode(content) == PaperKey("encrypt", ROOT)
    assert paperkey.parse_qr(QR) == content
    assert pages.fingerprint_of(content).replace(":", "")[32:] in PAGE.replace(":", "")


@pytest.mark.parametrize("name", ["paperkey.pdf", "paperkey.png", "paperkey.svg", "paperkey.txt"])
def test_every_kind_of_page_is_read(name: str) -> None:
    assert paperkey.decode(source.read((GOLDEN / name).read_bytes())) == PaperKey("encrypt", ROOT)


def test_ours_still_writes_it() -> None:
    content = paperkey.encode(PaperKey("encrypt", ROOT))
    assert paperkey.qr_text(content) == QR
    for line in paperkey.lines(content):
        assert line in PAGE


def test_the_document_alone_reads_it() -> None:
    begin, end = "-----BEGIN IRONCORE BACKUP PAPER KEY-----", "-----END IRONCORE BACKUP PAPER KEY-----"
    content = b""
    for place, line in enumerate(PAGE.split(begin)[1].split(end)[0].strip().splitlines(), start=1):
        digits = "".join(line.split())
        assert digits[:2] == f"{place:02d}"
        assert crc_ccitt(bytes.fromhex(digits[:18])) == int(digits[18:], 16)
        content += bytes.fromhex(digits[2:18])
    assert "IBS-PAPERKEY:" + content.hex().upper() == QR
    assert content[:2] == b"\x01\x01"
    assert content[2:34] == ROOT
    whole = blake3(content[:34], derive_key_context="ironcore-backup 2026 v1 paper checksum").digest()
    assert content[34:] == whole[:6]
