"""Bodies of the reader routes."""

from __future__ import annotations

import msgspec
import pytest

from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened


def test_opening_names_a_snapshot() -> None:
    assert ReaderOpen(snapshot="host/a") == ReaderOpen(snapshot="host/a", namespace="", purpose="restore")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"{}", type=ReaderOpen)


def test_the_manifest_travels_as_text() -> None:
    text = '{\n "snapshot": "host/ü/2026-11-22T19:00:00Z"\n}\n'
    opened = ReaderOpened(reader_id="r", upid="u", snapshot="s", manifest=text, signature="", signer="")
    assert msgspec.json.decode(msgspec.json.encode(opened), type=ReaderOpened).manifest == text


def test_closing_is_fine_unless_told_otherwise() -> None:
    assert msgspec.json.decode(b"{}", type=ReaderClose) == ReaderClose(status="OK", warnings=0, message="")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"warnings": -1}', type=ReaderClose)
