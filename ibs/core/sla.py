"""When a group's backups are late, missing, failed, or of a suspicious size. Pure; imported by `services.sla`.

Terms are set by people or learned from the group's own history; a verdict names the figures it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Final

from ibs.core import limits
from ibs.core.names import format_time
from ibs.units import format_bytes, format_duration


class SlaState(StrEnum):
    """How a group stands. `learning`: nothing was set, and there are too few backups to tell."""

    OK = "ok"
    LATE = "late"
    MISSING = "missing"
    FAILED = "failed"
    SMALL = "suspiciously small"
    LARGE = "suspiciously large"
    PAUSED = "paused"
    LEARNING = "learning"


QUIET: Final = frozenset({SlaState.OK, SlaState.PAUSED, SlaState.LEARNING})


@dataclass(frozen=True, slots=True)
class Terms:
    """What is expected. 0: not watched. `change_percent` is against the backup before; `learned_from` backups or 0."""

    rpo_seconds: float = 0.0
    bytes_min: int = 0
    bytes_max: int = 0
    change_percent: int = 0
    learned_from: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A backup that is there."""

    time: datetime
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`due` is when the next backup must be there; None when nobody can tell."""

    state: SlaState
    why: str
    due: datetime | None = None


def learn(history: Sequence[Seen]) -> Terms | None:
    """Terms from a group's backups, oldest first; None while there are fewer than SLA_LEARN_BACKUPS_MIN.

    The time allowed is twice the median interval and at least an hour more than it; sizes may be from half of the
    smallest to twice the largest. The newest backup is judged by those before it.
    """
    known = list(history)[-limits.SLA_HISTORY :]
    if len(known) < limits.SLA_LEARN_BACKUPS_MIN:
        return None
    gaps = [(later.time - earlier.time).total_seconds() for earlier, later in pairwise(known)]
    usual = median(gaps)
    sizes = [one.plain_bytes for one in known[:-1]]
    return Terms(
        rpo_seconds=max(2 * usual, usual + 3600.0),
        bytes_min=min(sizes) // 2,
        bytes_max=max(*sizes, 1) * 2 + limits.SLA_SIZE_SLACK_BYTES,
        learned_from=len(known),
    )


def judge(
    terms: Terms | None,
    history: Sequence[Seen],
    *,
    now: datetime,
    since: datetime,
    failed: datetime | None = None,
    paused: str = "",
) -> Verdict:
    """How a group stands. `since` is when it began to be watched, `failed` when its last failed backup ended."""
    last = history[-1] if history else None
    if paused:
        return Verdict(SlaState.PAUSED, paused)
    if terms is None:
        return Verdict(SlaState.LEARNING, f"{len(history)} of {limits.SLA_LEARN_BACKUPS_MIN} backups that it takes")
    due = None
    if terms.rpo_seconds:
        allowed = timedelta(seconds=min(terms.rpo_seconds, limits.SLA_RPO_SECONDS_MAX))
        due = (last.time if last is not None else since) + allowed
        if now > due:
            return _overdue(last, due, allowed, now)
    if failed is not None and (last is None or failed > last.time):
        return Verdict(SlaState.FAILED, f"the backup that ended {format_time(failed)} failed", due)
    state, why = _size(terms, history)
    return Verdict(state, why, due)


def _overdue(last: Seen | None, due: datetime, allowed: timedelta, now: datetime) -> Verdict:
    limit = format_duration(allowed.total_seconds())
    if last is None:
        return Verdict(SlaState.MISSING, f"there is no backup at all, {limit} are allowed", due)
    why = f"the last backup is of {format_time(last.time)}, {limit} are allowed"
    gone = now - last.time > limits.SLA_MISSING_TIMES * allowed
    return Verdict(SlaState.MISSING if gone else SlaState.LATE, why, due)


def _size(terms: Terms, history: Sequence[Seen]) -> tuple[SlaState, str]:
    if not history:
        return SlaState.OK, ""
    size = history[-1].plain_bytes
    if terms.bytes_min and size < terms.bytes_min:
        return SlaState.SMALL, f"{format_bytes(size)}, at least {format_bytes(terms.bytes_min)} are expected"
    if terms.bytes_max and size > terms.bytes_max:
        return SlaState.LARGE, f"{format_bytes(size)}, at most {format_bytes(terms.bytes_max)} are expected"
    before = history[-2].plain_bytes if len(history) > 1 else 0
    if terms.change_percent and before and abs(size - before) * 100 > terms.change_percent * before:
        state = SlaState.SMALL if size < before else SlaState.LARGE
        return state, f"{format_bytes(size)} after {format_bytes(before)}, {terms.change_percent} % are allowed"
    return SlaState.OK, ""
