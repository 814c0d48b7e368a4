"""Retention: which snapshots of a group stay, and by which rule. Pure; imported by `engine`, `wire` users and tests.

The rules are those of Proxmox Backup Server, so that its users find the same snapshots kept. `keep-last`, then
`keep-hourly` to `keep-yearly` each walk the group from the newest snapshot to the oldest and keep the newest of each
new period until they have kept as many as they say; a period in which an earlier rule kept something is skipped and
takes no place; what shares its period with a snapshot kept by the same rule is not looked at by later rules. The union
stays. Periods are those of a stated IANA time zone, weeks are ISO weeks. A policy without any rule keeps everything.

Beyond that: a protected snapshot takes no place and always stays; an unfinished one stays only while it is the newest;
and the newest good snapshot (not known to be damaged) stays whatever the rules say. What is locked stays beside those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ibs.core import limits
from ibs.errors import UsageError

PROTECTED: Final = "protected"
LOCKED: Final = "locked"
UNFINISHED: Final = "unfinished, newest"
LAST_GOOD: Final = "last good"
NO_RULES: Final = "no rules"
PERIODS: Final = {
    "keep-hourly": "%Y-%m-%d %H:00 %z",  # with the offset: the hour that the end of summer time repeats is another
    "keep-daily": "%Y-%m-%d",
    "keep-weekly": "%G-W%V",
    "keep-monthly": "%Y-%m",
    "keep-yearly": "%Y",
}
"""Rules by periods, in their order, and how each names the period of a local time."""
KEEP_LAST: Final = "keep-last"
RULES: Final = (KEEP_LAST, *PERIODS)


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many to keep by each rule, 0 for a rule not used. `timezone` is an IANA name."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    timezone: str = "UTC"

    def counts(self) -> dict[str, int]:
        """Rules in use by name, in their order."""
        found = {rule: getattr(self, rule.replace("-", "_")) for rule in RULES}
        return {rule: count for rule, count in found.items() if count}

    def checked(self) -> Policy:
        """This policy if it makes sense. Raises UsageError."""
        for rule in RULES:
            count = getattr(self, rule.replace("-", "_"))
            if not 0 <= count <= limits.RETENTION_KEEP_MAX:
                raise UsageError(f"{rule} {count} is out of range", hint=f"use 1 to {limits.RETENTION_KEEP_MAX}")
        zone_of(self.timezone)
        return self

    def __str__(self) -> str:
        counts = " ".join(f"{rule} {count}" for rule, count in self.counts().items())
        return f"{counts} ({self.timezone})" if counts else "keep everything"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot to decide about. `good`: not known to be damaged; `size` in plain bytes."""

    name: str
    time: datetime
    protected: bool = False
    locked: bool = False
    finished: bool = True
    good: bool = True
    size: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` says why it stays; empty when it goes. `period` is the one it stands for, in its rule's words."""

    candidate: Candidate
    keep: bool
    rule: str = ""
    period: str = ""


@dataclass
class _Mark:
    """What was decided so far: None nothing yet, True stays, False goes."""

    keep: bool | None = None
    rule: str = ""
    period: str = ""

    def stay(self, rule: str, period: str = "") -> None:
        self.keep, self.rule, self.period = True, rule, period


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"time zone {name[:64]!r} is not known", hint="write it like Europe/Vienna or UTC") from error


def decide(policy: Policy, candidates: Sequence[Candidate]) -> list[Decision]:
    """One decision a snapshot of one group, newest first. Raises UsageError for an unknown time zone."""
    newest_first = sorted(candidates, key=lambda one: (one.time, one.name), reverse=True)
    marks = [_Mark() for _ in newest_first]
    zone = zone_of(policy.timezone)
    counts = policy.counts()
    _mark_unfinished(newest_first, marks)
    for candidate, mark in zip(newest_first, marks, strict=True):
        if candidate.protected:
            mark.stay(PROTECTED)
        elif not counts:
            mark.stay(NO_RULES)
    for rule, count in counts.items():
        _mark_by(rule, count, newest_first, marks, _namer(rule, zone))
    for candidate, mark in zip(newest_first, marks, strict=True):
        if candidate.locked and not mark.keep:
            mark.stay(LOCKED)  # beside what the rules keep: when its lock ends, they decide as if there had been none
    _mark_last_good(newest_first, marks)
    return [
        Decision(candidate, mark.keep is True, mark.rule, mark.period)
        for candidate, mark in zip(newest_first, marks, strict=True)
    ]


def _namer(rule: str, zone: ZoneInfo) -> Callable[[Candidate], str]:
    """How the rule names the period of a snapshot. For keep-last each is its own."""
    if rule == KEEP_LAST:
        return lambda one: one.name
    # strftime leaves the zeros of early years away on some systems; all our times are of four digits.
    return lambda one: one.time.astimezone(zone).strftime(PERIODS[rule])


def _mark_unfinished(candidates: Sequence[Candidate], marks: Sequence[_Mark]) -> None:
    for at, (candidate, mark) in enumerate(zip(candidates, marks, strict=True)):
        if not candidate.finished:
            if at == 0:
                mark.stay(UNFINISHED)
            else:
                mark.keep = False


def _mark_by(
    rule: str, count: int, candidates: Sequence[Candidate], marks: Sequence[_Mark], name: Callable[[Candidate], str]
) -> None:
    """Keep the newest of each of `count` periods that no earlier rule covers."""
    covered = {
        name(candidate)
        for candidate, mark in zip(candidates, marks, strict=True)
        if mark.keep and mark.rule not in (PROTECTED, UNFINISHED)
    }
    taken: set[str] = set()
    for candidate, mark in zip(candidates, marks, strict=True):
        if mark.keep is not None:
            continue
        period = name(candidate)
        if period in covered:
            continue
        if period in taken:
            mark.keep = False
        elif len(taken) < count:
            taken.add(period)
            mark.stay(rule, period if rule != KEEP_LAST else "")
        else:
            return


def _mark_last_good(candidates: Sequence[Candidate], marks: Sequence[_Mark]) -> None:
    """The newest good snapshot stays, unless a good one stays anyhow."""
    good = [mark for candidate, mark in zip(candidates, marks, strict=True) if candidate.good and candidate.finished]
    if good and not any(mark.keep for mark in good):
        good[0].stay(LAST_GOOD)


def brake(decisions: Sequence[Decision]) -> str:
    """Why these removals must not happen without somebody's word; empty when nothing is odd (PROTOCOLS 14)."""
    return too_many(decisions) or too_small(decisions)


def too_many(decisions: Sequence[Decision]) -> str:
    """More than half of the group would go."""
    removed = sum(not one.keep for one in decisions)
    if removed * 2 <= len(decisions):
        return ""
    return f"it would remove {removed} of {len(decisions)} snapshots, more than half"


def too_small(decisions: Sequence[Decision]) -> str:
    """What stays is tiny beside what goes: the source may have lost its data before the snapshots do."""
    kept = max((one.candidate.size for one in decisions if one.keep), default=0)
    usual = max((one.candidate.size for one in decisions if not one.keep), default=0)
    if kept * limits.PRUNE_KEPT_SHARE >= usual:
        return ""
    return f"the largest snapshot kept has {kept} bytes, under a tenth of the {usual} of one it would remove"
