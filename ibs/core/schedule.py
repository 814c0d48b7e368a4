"""Times of jobs: systemd calendar expressions in a time zone, a delay that spreads them, and times of day.

Pure; imported by `services.jobs`, `services.workqueue` and the command line. Expressions are those of systemd.time(7),
read by `oncalendar`; a zone at the end of the expression itself wins over the one given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from oncalendar import OnCalendar, OnCalendarError

from ibs.core.retention import zone_of
from ibs.errors import UsageError

_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


def upcoming(when: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """The next times after `after`, in UTC: `count`, or fewer when it then never comes again.

    Raises UsageError for an expression or a zone that cannot be read.
    """
    local = after.astimezone(zone_of(zone))
    found: list[datetime] = []
    try:
        times = OnCalendar(when, local)
        while len(found) < count:
            found.append(next(times).astimezone(UTC))
    except StopIteration:
        pass
    except (OnCalendarError, ValueError, OverflowError) as error:
        raise UsageError(
            f"calendar expression {when[:80]!r} is not valid",
            hint="write it like daily, Sun 04:30, Mon..Fri 02:00 or *-*-01 03:00",
        ) from error
    return found


def next_time(when: str, zone: str, after: datetime) -> datetime:
    """The first time after `after`. Raises UsageError, also for an expression that never comes."""
    found = upcoming(when, zone, after, 1)
    if not found:
        raise UsageError(f"calendar expression {when[:80]!r} never comes", hint="write it like daily or Sun 04:30")
    return found[0]


def delay_of(name: str, due: datetime, most: int) -> timedelta:
    """Up to `most` seconds, spread evenly over names and times, and always the same for the same run."""
    if most <= 0:
        return timedelta(0)
    seed = f"{name}\0{int(due.timestamp())}".encode()
    return timedelta(seconds=int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") % (most + 1))


def check_windows(windows: Sequence[str]) -> None:
    """Raises UsageError."""
    for text in windows:
        _window(text)


def in_window(windows: Sequence[str], zone: str, now: datetime) -> bool:
    """Whether the time of day is in one of the windows such as `22:00-06:00`; without any it always is."""
    local = now.astimezone(zone_of(zone))
    minute = local.hour * 60 + local.minute
    return not windows or any(_holds(*_window(text), minute) for text in windows)


def _holds(start: int, end: int, minute: int) -> bool:
    return start <= minute < end if start < end else minute >= start or minute < end


def _window(text: str) -> tuple[int, int]:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise UsageError(f"time window {text[:40]!r} is not valid", hint="write it like 22:00-06:00")
    numbers = [int(part) for part in match.groups()]
    start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if start == end:
        raise UsageError(f"time window {text} is empty", hint="leave it out for the whole day")
    return start, end
