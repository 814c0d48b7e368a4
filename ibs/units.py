"""Quantities as people write and read them: bytes (IEC), rates, durations, counts. Importable by everyone.

For people only: programs get plain integers of bytes and seconds in JSON. Formatting never fails on odd values;
parsing raises UsageError with an example.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from ibs.errors import UsageError

_IEC: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_NUMBER: Final = r"(\d{1,19}(?:\.\d{1,9})?)"
_BYTES: Final = re.compile(_NUMBER + r"\s*([kmgtpe]?)(ib|b|)", re.ASCII | re.IGNORECASE)
_BYTES_MAX: Final = (1 << 63) - 1
_DURATION_PART: Final = re.compile(_NUMBER + r"\s*(weeks?|w|days?|d|hours?|h|minutes?|min|m|seconds?|sec|s)", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_DURATION_PART.pattern}\s*)+", re.ASCII)
_PLAIN_SECONDS: Final = re.compile(_NUMBER, re.ASCII)
_SECONDS: Final = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION_TEXT_MAX: Final = 64
_DURATION_MAX: Final = 100 * 366 * 86400


def format_bytes(count: float) -> str:
    """Bytes with one decimal in the largest IEC unit: `0 B`, `999 B`, `1.5 GiB`."""
    value = float(count)
    if not math.isfinite(value):
        return "unknown"
    if abs(value) < 1024:
        return f"{int(value)} B"
    power = 0
    # 1023.95 would be shown as 1024.0 of the smaller unit.
    while abs(value) >= 1023.95 and power < len(_IEC) - 1:
        value /= 1024
        power += 1
    return f"{value:.1f} {_IEC[power]}"


def format_rate(bytes_per_second: float) -> str:
    """`10.0 MiB/s`."""
    return format_bytes(bytes_per_second) + "/s"


def format_count(count: int) -> str:
    """A count with thousands apart: `1,234,567`."""
    return f"{count:,}"


def format_duration(seconds: float) -> str:
    """The two largest parts: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 05 min`, `3 d 04 h`; `unknown` when not finite."""
    if not math.isfinite(seconds):
        return "unknown"
    sign = "-" if seconds < 0 else ""
    value = abs(seconds)
    if value < 9.95:
        return f"{sign}{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{sign}{whole} s"
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{sign}{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{sign}{whole // 86400} d {whole % 86400 // 3600:02} h"


def parse_bytes(text: str) -> int:
    """A number of bytes: `1.5 GiB`, `500 MB`, `64K`, `4096`; parts of a byte are dropped.

    `KiB` and a bare `K` are 1024, `KB` is 1000; either case. Raises UsageError.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"size {_shown(text)} is not valid", hint="write it like 4096, 64K, 500 MB or 1.5 GiB")
    number, prefix, suffix = match.groups()
    power = " kmgtpe".index(prefix.lower()) if prefix else 0
    if not prefix and suffix.lower() == "ib":
        raise UsageError(f"size {_shown(text)} is not valid", hint="write it like 4096, 64K, 500 MB or 1.5 GiB")
    base = 1000 if suffix.lower() == "b" else 1024
    count = int(Decimal(number) * base**power)
    if count > _BYTES_MAX:
        raise UsageError(f"size {_shown(text)} is too large", hint="sizes are below 8 EiB")
    return count


def parse_rate(text: str) -> int:
    """Bytes per second, at least 1: `10 MiB/s`, also without `/s`. Raises UsageError."""
    hint = "write it like 10 MiB/s; leave the limit out for none"
    try:
        rate = parse_bytes(re.sub(r"\s*/\s*s\s*$", "", text, flags=re.IGNORECASE))
    except UsageError as error:
        raise UsageError(f"rate {_shown(text)} is not valid", hint=hint) from error
    if rate < 1:
        raise UsageError(f"rate {_shown(text)} is below one byte a second", hint=hint)
    return rate


def parse_duration(text: str) -> float:
    """Seconds: `90`, `90s`, `5 min`, `1h30m`, `2d`, `1w`; at most 100 years. Raises UsageError."""
    given = text.strip().lower()
    seconds: Decimal | None = None
    if len(given) <= _DURATION_TEXT_MAX:
        if _PLAIN_SECONDS.fullmatch(given):
            seconds = Decimal(given)
        elif _DURATION.fullmatch(given):
            seconds = sum(
                (Decimal(number) * _SECONDS[unit[0]] for number, unit in _DURATION_PART.findall(given)), Decimal(0)
            )
    if seconds is None or seconds > _DURATION_MAX:
        raise UsageError(f"duration {_shown(text)} is not valid", hint="write it like 90s, 5m, 1h30m or 2d")
    return float(seconds)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
