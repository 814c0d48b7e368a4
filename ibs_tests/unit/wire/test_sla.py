from __future__ import annotations

import msgspec
import pytest

from ibs.wire.sla import SlaSet, SlaView


def test_bodies_are_bounded() -> None:
    body = msgspec.json.decode(b'{"group":"host/a"}', type=SlaSet)
    assert (body.store, body.rpo_seconds, body.paused) == ("", 0.0, False)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"group":"host/a","rpo_seconds":1e12}', type=SlaSet)
    row = SlaView(store="s", namespace="", group="host/a", state="ok")
    assert msgspec.json.decode(msgspec.json.encode(row), type=SlaView) == row
