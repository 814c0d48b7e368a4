from __future__ import annotations

import msgspec

from ibs.wire.schedule import ScheduleSet, ScheduleView


def test_bodies_have_defaults() -> None:
    body = msgspec.json.decode(b'{"kind":"verify","when":"daily"}', type=ScheduleSet)
    assert (body.namespace, body.verify_window_days, body.max_concurrent_snapshots) == ("", None, 1)
    row = ScheduleView(store="s", kind="gc", when="never", default=True)
    assert msgspec.json.decode(msgspec.json.encode(row), type=ScheduleView) == row
