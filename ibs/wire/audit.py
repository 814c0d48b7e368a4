"""Bodies of the audit routes."""

from __future__ import annotations

from typing import Any

from ibs.wire.common import Wire


class AuditView(Wire, frozen=True, kw_only=True):
    """One row of the audit log; `hash` is its link of the chain."""

    n: int
    time: str
    auth_id: str
    peer: str
    action: str
    target: str
    outcome: str
    code: str = ""
    message: str = ""
    count: int = 1
    before: Any = None
    after: Any = None
    hash: str = ""


class AuditCheck(Wire, frozen=True, kw_only=True):
    """What `audit verify` found. `file` and `line` name the first bad line; `good_until` the last good row's time.

    `unproven` is how many lines follow the last good row.
    """

    ok: bool
    rows: int
    files: int
    first: str = ""
    good_until: str = ""
    head: str = ""
    file: str = ""
    line: int = 0
    problem: str = ""
    unproven: int = 0
