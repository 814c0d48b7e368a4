"""Bodies of the write-session routes: sizes cannot be negative, exact texts stay exact."""

from __future__ import annotations

import msgspec
import pytest

from ibs.core import limits
from ibs.wire.session import (
    ArchiveClose,
    CommitRequest,
    LogLine,
    SessionOpen,
    SessionOpened,
    StageFigures,
    StageReport,
)
from ibs_tests.support.control import sample


def test_opening() -> None:
    request = SessionOpen(store="main", group="host/a", archives=["etc.tree"])
    assert (request.namespace, request.key_fingerprint, request.use_base) == ("", "", True)
    assert sample(SessionOpened).heartbeat_seconds == limits.SESSION_HEARTBEAT_SECONDS


@pytest.mark.parametrize("field", ["plain_bytes", "records", "depth", "chunk_bytes"])
def test_an_archive_has_no_negative_size(field: str) -> None:
    facts = {"plain_bytes": 1, "records": 1, "depth": 1, "chunk_bytes": 1}
    assert msgspec.convert(facts, ArchiveClose)
    for wrong in (-1, 1 << 64, "1", 1.5, None):
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert(facts | {field: wrong}, ArchiveClose)


def test_reports_are_whole_or_not_at_all() -> None:
    report = StageReport(stages={"read": StageFigures(bytes=5)}, lines=[LogLine(level="info", text="[x]")])
    assert msgspec.json.decode(msgspec.json.encode(report), type=StageReport) == report
    assert msgspec.json.decode(b"{}", type=StageReport) == StageReport()
    for wrong in (b'{"done_bytes": -1}', b'{"stages": {"read": {"items": -1}}}', b'{"lines": [{"level": "info"}]}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=StageReport)


def test_a_manifest_travels_byte_for_byte() -> None:
    text = '{\n  "z": 1,\n "a": "ü\\u0000"\n}\n'
    raw = msgspec.json.encode(CommitRequest(manifest=text))
    assert msgspec.json.decode(raw, type=CommitRequest).manifest.encode() == text.encode()
