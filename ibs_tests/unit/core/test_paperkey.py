"""What is on a paper: lines and QR code are the same bytes, and no other bytes make a key."""

from __future__ import annotations

import pytest

from ibs.core import paperkey
from ibs.core.paperkey import PaperKey
from ibs.errors import FormatError

ROOT = bytes(range(32))


def test_content_and_back() -> None:
    for mode in ("encrypt", "sign-only"):
        content = paperkey.encode(PaperKey(mode, ROOT))  # type: ignore[arg-type]
        assert len(content) == 40
        assert paperkey.decode(content) == PaperKey(mode, ROOT)  # type: ignore[arg-type]
        assert len(paperkey.lines(content)) == paperkey.LINES == 5
        assert paperkey.parse_qr(paperkey.qr_text(content)) == content
        assert paperkey.checksum(content).replace(" ", "") == content[-6:].hex()
    assert ROOT.hex() not in repr(PaperKey("encrypt", ROOT))


def test_every_changed_bit_is_found() -> None:
    content = paperkey.encode(PaperKey("encrypt", ROOT))
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            paperkey.decode(bytes(changed))


def test_another_format_is_told_from_a_misread_one() -> None:
    content = paperkey.encode(PaperKey("encrypt", ROOT))
    for head in (b"\x02\x01", b"\x01\x09"):
        stated = head + content[2:-6]
        with pytest.raises(FormatError, match="is not known"):
            paperkey.decode(stated + paperkey._digest(stated))
        with pytest.raises(FormatError, match="no paper key"):
            paperkey.decode(stated + content[-6:])
    with pytest.raises(FormatError, match="40 bytes, not 39"):
        paperkey.decode(content[:-1])


def test_other_qr_codes_are_none_of_ours() -> None:
    assert paperkey.parse_qr("https://example.org") is None
    with pytest.raises(FormatError, match="damaged"):
        paperkey.parse_qr("IBS-PAPERKEY:01X")
