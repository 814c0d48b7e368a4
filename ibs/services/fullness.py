"""How full a datastore is, in three steps, and the words for it. Pure; used by `services.sync`.

Bytes and inodes of the file system and of quotas count alike: the scarcest decides. A step is left only well below
the mark at which it was entered, so that a store at the mark is not told again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from ibs.core import limits_notify
from ibs.core.events import Severity
from ibs.ports.chunkstore import Space
from ibs.units import format_bytes


class Fullness(IntEnum):
    """`LOW`: somebody should look. `OUT`: backups are about to be refused."""

    FINE = 0
    LOW = 1
    OUT = 2


KINDS = {
    Fullness.FINE: ("datastore.space-well", Severity.NOTICE),
    Fullness.LOW: ("datastore.space-low", Severity.WARNING),
    Fullness.OUT: ("datastore.space-out", Severity.ERROR),
}
_MARKS = {Fullness.LOW: limits_notify.SPACE_LOW_PERCENT, Fullness.OUT: limits_notify.SPACE_OUT_PERCENT}


def look(space: Space, before: Fullness) -> tuple[Fullness, str]:
    """How full it is now that was `before`, and what is scarcest, in words."""
    percent, words = max(_used(space), default=(0.0, "nothing limits it"))
    now = Fullness.FINE
    for step, mark in _MARKS.items():
        margin = limits_notify.SPACE_MARGIN_PERCENT if before >= step else 0
        if percent >= mark - margin:
            now = step
    return now, words


def _used(space: Space) -> Iterator[tuple[float, str]]:
    """How much of each is used, in percent; and the words for it."""
    quota = f"the quota of {space.quota}"
    for free, total, what, of_bytes in (
        (space.bytes_free, space.bytes_total, "its file system", True),
        (space.inodes_free, space.inodes_total, "the inodes of its file system", False),
        (space.quota_bytes_free, space.quota_bytes_total, quota, True),
        (space.quota_inodes_free, space.quota_inodes_total, f"the inodes of {quota}", False),
    ):
        if total and free is not None:
            percent = 100.0 * (1 - min(free, total) / total)
            left = format_bytes(free) if of_bytes else str(free)
            yield percent, f"{percent:.0f} % of {what} are used, {left} are free"
