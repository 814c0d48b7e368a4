"""Schedules of a datastore's own upkeep: verification, garbage collection, pruning."""

from __future__ import annotations

from ibs.wire.common import Wire


class ScheduleSet(Wire, frozen=True, kw_only=True):
    """`kind` verify, gc or prune; `when` a systemd calendar expression in UTC, or `never`.

    `namespace`, `verify_window_days`, `max_concurrent_snapshots` and `notification_mode` are of verification.
    """

    kind: str
    when: str
    namespace: str = ""
    verify_window_days: int | None = None
    max_concurrent_snapshots: int = 1
    io_limit: int = 0
    """Bytes a second; 0 for no limit."""
    notification_mode: str = "on-failure"


class ScheduleView(Wire, frozen=True, kw_only=True):
    """`default`: nobody has set it. `next` and `last` are times; empty for never, and not yet."""

    store: str
    kind: str
    when: str
    namespace: str = ""
    default: bool = False
    next: str = ""
    last: str = ""
    verify_window_days: int | None = None
    max_concurrent_snapshots: int = 1
    io_limit: int = 0
    notification_mode: str = "on-failure"
    by: str = ""
    time: str = ""
