"""Digests, ids and how fingerprints are written."""

from __future__ import annotations

import pytest

from ibs.core import ids
from ibs.errors import UsageError

EMPTY_BLAKE3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # from the BLAKE3 paper's vectors


def test_digest_is_blake3_256() -> None:
    assert ids.digest(b"").hex() == EMPTY_BLAKE3
    assert ids.chunk_id(memoryview(b"")) == ids.digest(bytearray())


def test_fingerprints_round_trip() -> None:
    raw = bytes(range(32))
    text = ids.hex_fingerprint(raw)
    assert text.startswith("00:01:02:")
    assert len(text) == 95
    assert ids.parse_fingerprint(text) == raw
    assert ids.parse_fingerprint(f"  {text.upper()}\n") == raw
    assert ids.short_fingerprint(raw) == "00:01:02:03:04:05:06:07"


@pytest.mark.parametrize(
    "text",
    ["", "aa:bb", "zz" + ":00" * 31, "00" * 32, "00:" * 32, "00:01:02:03:04:05:06:07", "a" * 10_000, "٣٣" + ":00" * 31],
)
def test_wrong_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="fingerprint") as caught:
        ids.parse_fingerprint(text)
    assert len(caught.value.message) < 200


def test_hex_ids() -> None:
    assert ids.parse_hex("0f" * 32) == b"\x0f" * 32
    for wrong in ("", "0F" * 32, "0f" * 31, "0f" * 32 + "\n", "0x" + "0f" * 31):
        with pytest.raises(UsageError, match="digest of x"):
            ids.parse_hex(wrong, "digest of x")


def test_an_address_is_domain_then_id() -> None:
    address = ids.Address(ids.PLAIN_DOMAIN, b"\x01" * 32)
    assert address == (bytes(32), b"\x01" * 32)
