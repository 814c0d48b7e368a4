"""Which snapshots a sync job brings, and which it may remove because they vanished at their source. Pure.

For the `sync` modules of `services`; nothing here reads a store or a network. Invariants:

* What is there is never replaced by something else: a snapshot of the same name with another manifest is a conflict.
* What vanished is judged by everything the source has, never by what a filter left of it; and only what sync brought
  can vanish. The last good snapshot of a group and protected ones stay whatever the source says (PROTOCOLS 25).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from ibs.core.names import BACKUP_TYPES, Group, check_name
from ibs.core.retention import RULES, Candidate, Policy, decide
from ibs.errors import UsageError

KEEP_ALL: Final = Policy()
VANISHED_FEW: Final = 5
"""So many may vanish at once, whatever their share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One snapshot on one side. `digest` is that of its manifest, hex, "" when that cannot be read; `source` of the
    manifest it was made from.

    `good` is False once it is known to be damaged. `brought` says that sync brought it here.
    """

    group: Group
    time: datetime
    digest: str
    source: str = ""
    good: bool = True
    protected: bool = False
    brought: bool = False

    @property
    def name(self) -> str:
        """The snapshot below its namespace."""
        return f"{self.group}/{self.time:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def origin(self) -> str:
        """The manifest that decides whether it is already there."""
        return self.source or self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a job looks at; empty and None mean everything. `groups` are globs over `host/web01`.

    `keep` and then `newest` choose in each group, after `age_seconds_max`; `keep` by the rules of a retention, though
    nothing is kept but what a rule says. Raises UsageError when built of what cannot match.
    """

    groups: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    newest: int | None = None
    age_seconds_max: float | None = None
    keep: Policy = KEEP_ALL

    def __post_init__(self) -> None:
        for kind in self.types:
            if kind not in BACKUP_TYPES:
                raise UsageError(f"backup type {kind!r} is not valid", hint=f"use one of {', '.join(BACKUP_TYPES)}")
        for pattern in self.groups:
            _check_pattern(pattern)
        self.keep.checked()
        if self.newest is not None and self.newest < 1:
            raise UsageError("the newest 0 snapshots are none", hint="use 1 or more, or leave the filter out")
        if self.age_seconds_max is not None and self.age_seconds_max <= 0:
            raise UsageError("a greatest age must be longer than nothing", hint="write it like 30d")

    def covers(self, group: Group) -> bool:
        """Whether the job looks at this group."""
        if self.types and group.backup_type not in self.types:
            return False
        return not self.groups or any(fnmatchcase(str(group), pattern) for pattern in self.groups)

    def choose(self, snapshots: Iterable[Seen], now: datetime) -> list[Seen]:
        """Those to be brought, a group after the other, oldest first."""
        chosen: list[Seen] = []
        for _, members in sorted(_by_group(one for one in snapshots if self.covers(one.group)).items()):
            young = self._kept([one for one in members if self._young(one, now)])
            chosen += young[-self.newest :] if self.newest else young
        return chosen

    def _kept(self, members: Sequence[Seen]) -> Sequence[Seen]:
        if not self.keep.counts():
            return members
        decisions = decide(self.keep, [Candidate(one.name, one.time) for one in members])
        kept = {one.candidate.name for one in decisions if one.keep and one.rule in RULES}
        return [one for one in members if one.name in kept]

    def _young(self, one: Seen, now: datetime) -> bool:
        return self.age_seconds_max is None or (now - one.time).total_seconds() <= self.age_seconds_max


class Why(StrEnum):
    """Why a snapshot is brought."""

    NEW = "new"
    DAMAGED = "damaged here"


@dataclass(frozen=True, slots=True)
class Bring:
    """A snapshot to be brought. One that is damaged here is mended chunk by chunk, its manifest stays."""

    snapshot: Seen
    why: Why


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `there`: how many need nothing. `conflicts`: same name here, another manifest; left alone.

    `forgotten`: somebody here moved them to the bin, where they still are; they stay there.
    """

    bring: tuple[Bring, ...] = ()
    there: int = 0
    conflicts: tuple[Seen, ...] = ()
    forgotten: tuple[Seen, ...] = ()


def plan(
    source: Sequence[Seen],
    target: Sequence[Seen],
    wanted: Filter,
    now: datetime,
    binned: Container[tuple[Group, datetime]] = (),
    *,
    resync: bool,
) -> Plan:
    """Compare both sides; with `resync`, what is known to be damaged here and good there is brought again.

    What is `binned` here, by group and time, is not brought.
    """
    here = {(one.group, one.time): one for one in target}
    bring: list[Bring] = []
    conflicts: list[Seen] = []
    forgotten: list[Seen] = []
    there = 0
    for one in wanted.choose(source, now):
        known = here.get((one.group, one.time))
        if known is None and (one.group, one.time) in binned:
            forgotten.append(one)
        elif known is None:
            bring.append(Bring(one, Why.NEW))
        elif resync and one.good and not known.good and known.origin in {"", one.origin}:
            bring.append(Bring(one, Why.DAMAGED))
        elif known.origin != one.origin:
            conflicts.append(one)
        else:
            there += 1
    return Plan(tuple(bring), there, tuple(conflicts), tuple(forgotten))


@dataclass(frozen=True, slots=True)
class Vanished:
    """What may go to the bin, oldest first, and what stays although it vanished, with the reason."""

    remove: tuple[Seen, ...] = ()
    kept: tuple[tuple[Seen, str], ...] = ()


def vanished(source: Sequence[Seen], target: Sequence[Seen], wanted: Filter) -> Vanished:
    """What sync brought here once and the source has no more. `source` is its whole listing, unfiltered."""
    at_source = {(one.group, one.time) for one in source}
    remove: list[Seen] = []
    kept: list[tuple[Seen, str]] = []
    for _, members in sorted(_by_group(one for one in target if wanted.covers(one.group)).items()):
        good = [one for one in members if one.good]
        last = (good or members)[-1]  # where none is good, the newest is still better than nothing
        for one in members:
            if not one.brought or (one.group, one.time) in at_source:
                continue
            if one.protected:
                kept.append((one, "protected"))
            elif one is last:
                kept.append((one, "the last good one of its group"))
            else:
                remove.append(one)
    return Vanished(tuple(remove), tuple(kept))


def is_accident(gone: Vanished, target: Sequence[Seen], wanted: Filter) -> bool:
    """Whether so much vanished at once that the source is in trouble rather than tidy: more than half of what it
    brought, and more than a few.
    """
    brought = sum(one.brought for one in target if wanted.covers(one.group))
    lost = len(gone.remove) + len(gone.kept)
    return lost > VANISHED_FEW and 2 * lost > brought


def _by_group(snapshots: Iterable[Seen]) -> dict[Group, list[Seen]]:
    found: dict[Group, list[Seen]] = {}
    for one in sorted(snapshots, key=lambda each: each.time):
        found.setdefault(one.group, []).append(one)
    return found


def _check_pattern(pattern: str) -> None:
    kind, slash, rest = pattern.partition("/")
    if not slash or not kind or not rest or "/" in rest:
        raise UsageError(f"group pattern {pattern[:100]!r} can match nothing", hint="write it like host/web* or */db01")
    if not any(fnmatchcase(one, kind) for one in BACKUP_TYPES):
        raise UsageError(
            f"group pattern {pattern[:100]!r} names no backup type", hint=f"use one of {', '.join(BACKUP_TYPES)}, or *"
        )
    if not set(rest) & set("*?["):
        check_name(rest, "backup id")
