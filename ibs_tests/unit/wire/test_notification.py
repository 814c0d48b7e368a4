from __future__ import annotations

import msgspec

from ibs.wire.notification import TargetSet, TargetView


def test_no_answer_has_room_for_a_secret() -> None:
    body = msgspec.json.decode(b'{"name":"a","spec":{"kind":"webhook"},"secrets":{"secret":"s"}}', type=TargetSet)
    assert body.secrets is not None
    row = TargetView(name=body.name, spec=body.spec, enabled=True, has_secret=True)
    assert "secrets" not in msgspec.json.decode(msgspec.json.encode(row))
    assert msgspec.json.decode(msgspec.json.encode(row), type=TargetView) == row
