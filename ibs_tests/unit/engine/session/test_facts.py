"""The record of a session on disk: read back as written, hostile ones refused."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from ibs.engine.session.facts import SessionFacts, decode_facts, is_session_id
from ibs.errors import FormatError

FACTS = SessionFacts(
    session_id="a" * 32,
    store_uuid="u",
    auth_id="alice@ibs",
    snapshot="ns:a/b/host/web01/2026-11-22T19:00:00Z",
    archives=["etc.tree"],
    domain="00" * 32,
    key_fingerprint="",
    epoch=1 << 32,
    opened="2026-11-22T19:00:00Z",
    upid="",
    sequence=1,
    previous="",
)


def test_facts_come_back() -> None:
    facts = decode_facts(msgspec.json.encode(FACTS))
    assert facts == FACTS
    assert facts.name.time == datetime(2026, 11, 22, 19, tzinfo=UTC)
    assert facts.domain_bytes == bytes(32)


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": "../../etc"},
        {"domain": "00"},
        {"domain": "zz" * 32},
        {"snapshot": "host/web01"},
        {"snapshot": "host/../2026-11-22T19:00:00Z"},
        {"epoch": "high"},
    ],
)
def test_hostile_facts_are_refused(changes: dict[str, object]) -> None:
    raw = msgspec.json.encode(msgspec.to_builtins(FACTS) | changes)
    with pytest.raises(FormatError):
        decode_facts(raw)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 10, bytes(64)])
def test_torn_facts_are_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        decode_facts(content)


def test_session_ids() -> None:
    assert is_session_id("0123456789abcdef" * 2)
    assert not is_session_id("0123456789ABCDEF" * 2)
    assert not is_session_id("a" * 31)
