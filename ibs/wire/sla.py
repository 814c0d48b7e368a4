"""Bodies of the SLA routes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits
from ibs.wire.common import Count, Wire


class SlaSet(Wire, frozen=True, kw_only=True):
    """Watch a group by these terms, 0 for one not watched; with all 0 they go on being learned.

    `group` is written `[ns:a/b/]host/web01`; `store` "" where only one datastore has it. `paused`: raise nothing.
    """

    group: str
    store: str = ""
    rpo_seconds: Annotated[float, msgspec.Meta(ge=0.0, le=limits.SLA_RPO_SECONDS_MAX)] = 0.0
    min_bytes: Count = 0
    max_change_percent: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    paused: bool = False


class SlaView(Wire, frozen=True, kw_only=True):
    """How a group stands. `learned`: the terms are from its history. `due` "": cannot be told."""

    store: str
    namespace: str
    group: str
    state: str
    why: str = ""
    last: str = ""
    last_bytes: int = 0
    due: str = ""
    rpo_seconds: float = 0.0
    min_bytes: int = 0
    max_bytes: int = 0
    max_change_percent: int = 0
    learned: bool = False
    learned_from: int = 0
    set_by: str = ""
