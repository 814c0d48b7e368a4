from __future__ import annotations

import msgspec

from ibs.wire.audit import AuditCheck, AuditView


def test_bodies_come_back() -> None:
    row = AuditView(n=1, time="t", auth_id="", peer="::1", action="a", target="/", outcome="ok", after={"x": 1})
    assert msgspec.json.decode(msgspec.json.encode(row), type=AuditView) == row
    check = msgspec.json.decode(b'{"ok":true,"rows":0,"files":0}', type=AuditCheck)
    assert (check.problem, check.line, check.unproven) == ("", 0, 0)
