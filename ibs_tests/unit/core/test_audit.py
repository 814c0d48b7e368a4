from __future__ import annotations

import pytest

from ibs.core import audit, limits
from ibs.core.audit import AuditRow, Link, Outcome
from ibs.errors import FormatError


def row(n: int, **more: object) -> AuditRow:
    facts = {"time": "2026-01-01T00:00:00Z", "auth_id": "a@ibs", "peer": "::1", "action": "acl_grant", "target": "/x"}
    return AuditRow(**{**facts, "n": n, "outcome": "ok", **more})  # type: ignore[arg-type]


def chain(count: int) -> list[bytes]:
    lines, link = [], audit.BEGIN
    for n in range(1, count + 1):
        line, link = audit.encode(row(n), link)
        lines.append(line.removesuffix(b"\n"))
    return lines


def test_lines_follow_each_other() -> None:
    link = audit.BEGIN
    for n, line in enumerate(chain(3), 1):
        found, link = audit.follow(line, link)
        assert found == row(n)
    assert link.n == 3


def test_a_changed_a_missing_and_a_swapped_line_are_noticed() -> None:
    one, two, three = chain(3)
    with pytest.raises(FormatError, match="row 1 was changed"):
        audit.follow(one.replace(b"acl_grant", b"acl_grand"), audit.BEGIN)
    _row, link = audit.follow(one, audit.BEGIN)
    with pytest.raises(FormatError, match="row 3 follows row 1"):
        audit.follow(three, link)
    with pytest.raises(FormatError, match="does not fit"):
        audit.follow(two, Link(1, bytes(32)))


@pytest.mark.parametrize("line", [b"", b"{}", b'{"n":1,"hash":"' + b"z" * 64 + b'"}', b"x" * 200])
def test_what_is_no_row_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(FormatError):
        audit.decode(line)
    with pytest.raises(FormatError, match="too long"):
        audit.decode(b"x" * (limits.AUDIT_LINE_BYTES_MAX + 1))


def test_large_values_are_not_kept() -> None:
    assert audit.bounded(None) is None
    assert audit.bounded({"a": 1}) == {"a": 1}
    assert str(audit.bounded("x" * limits.AUDIT_VALUE_BYTES_MAX)).startswith("not kept")


def test_filters() -> None:
    one = row(1, outcome=str(Outcome.REFUSED))
    assert audit.matches(one, {"who": "a@", "action": "grant", "outcome": "refused", "since": "2026-01-01T00:00:00Z"})
    assert not audit.matches(one, {"until": "2026-01-01T00:00:00Z"})
    assert not audit.matches(one, {"outcome": "ok"})
    assert not audit.matches(one, {"target": "/y"})
