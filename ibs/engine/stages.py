"""Where a task spent its time, in one line of its log, so that a slow one names what held it up.

Used by `engine.task`. Seconds are those of a stage's workers, added up: six senders that worked for a second each make
six. The line says so little on purpose; all figures are in the task (`task show`) and in the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

from ibs.units import format_duration, format_rate
from ibs.wire.session import StageFigures

_SHOWN_SECONDS_MIN = 0.05


def told(stages: Mapping[str, StageFigures]) -> str:
    """Such as `time by stage: read 1.2 s (210.0 MiB/s, waited 8.1 s), send 9.8 s (26.0 MiB/s); most went into send`.

    Stages that took no time worth a word are left out; "" when all are.
    """
    worked = {name: one for name, one in stages.items() if one.busy_seconds >= _SHOWN_SECONDS_MIN}
    if not worked:
        return ""
    parts = [_part(name, one) for name, one in worked.items()]
    most = max(worked, key=lambda name: worked[name].busy_seconds)
    return f"time by stage: {', '.join(parts)}; most went into {most}"


def _part(name: str, one: StageFigures) -> str:
    more = [format_rate(one.bytes / one.busy_seconds)] if one.bytes else []
    if one.wait_seconds >= _SHOWN_SECONDS_MIN:
        more.append(f"waited {format_duration(one.wait_seconds)}")
    return f"{name} {format_duration(one.busy_seconds)}" + (f" ({', '.join(more)})" if more else "")
