"""What is counted while the server runs: tasks that ended, how long they took, events, log lines, the loop's delay.

Used by `services.metrics` only. Counters begin at zero with the process, as Prometheus expects. Invariant: the number
of different label values is bounded, whatever events and lines say; what comes on top is counted under `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ibs.core import limits
from ibs.core.events import Event
from ibs.core.upid import Upid
from ibs.errors import IbsError
from ibs.wire.session import StageFigures

PREFIX: Final = "ironcore_backup_"
DURATION_BUCKETS_SECONDS: Final = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_DELAY_BUCKETS_SECONDS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_OTHER = "other"


class Histogram:
    """Counts by upper bound. `bounds` ascend."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """How many were at most each bound, as the exposition format wants it; the last one counts all."""
        found, so_far = [], 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            so_far += count
            found.append(("+Inf" if bound is None else str(float(bound)), float(so_far)))
        return found


class Counters:
    """`note_line` may be called from any thread, one call at a time; the rest from the loop's."""

    def __init__(self) -> None:
        self._events: Counter[tuple[str, str]] = Counter()
        self._lines: Counter[tuple[str, str]] = Counter()
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._ended_at: dict[tuple[str, str], float] = {}
        self._bytes: Counter[str] = Counter()
        self._seconds: dict[str, Histogram] = defaultdict(lambda: Histogram(DURATION_BUCKETS_SECONDS))
        self._stages: dict[tuple[str, str], StageFigures] = {}
        self._delay = Histogram(_DELAY_BUCKETS_SECONDS)

    def note_line(self, line: Mapping[str, Any]) -> None:
        """A log line was written."""
        _count(self._lines, (str(line["role"]), str(line["level"])))

    def note_delay(self, seconds: float) -> None:
        """The event loop came to a waiting task after `seconds`."""
        self._delay.note(seconds)

    def note_event(self, event: Event, store: str = "") -> None:
        """Something happened; `store` is the datastore that a task was about, "" when that is not known."""
        _count(self._events, (str(event.source), str(event.severity)))
        if event.kind != "task.ended":
            return
        kind, state = str(event.fields.get("type", "")), str(event.fields.get("state", ""))
        _count(self._ended, (kind, state, store))
        self._ended_at[kind, state] = event.time.timestamp()
        done = event.fields.get("done_bytes")
        self._bytes[kind] += done if isinstance(done, int) else 0
        try:
            began = Upid.parse(str(event.fields.get("upid", ""))).started
        except IbsError:
            return
        self._seconds[kind].note(max(0.0, event.time.timestamp() - began))

    def note_stages(self, kind: str, stages: Mapping[str, StageFigures]) -> None:
        """Where a task of that kind spent its time."""
        for stage, one in stages.items():
            key = (kind, stage)
            if key not in self._stages and len(self._stages) >= limits.METRICS_SERIES_MAX:
                continue
            before = self._stages.get(key, StageFigures())
            self._stages[key] = StageFigures(
                busy_seconds=before.busy_seconds + one.busy_seconds,
                wait_seconds=before.wait_seconds + one.wait_seconds,
                bytes=before.bytes + one.bytes,
                items=before.items + one.items,
            )

    def collect(self) -> list[Metric]:
        """All of it as it is now."""
        return [*self._task_families(), *self._stage_families(), *self._other_families()]

    def _task_families(self) -> list[Metric]:
        ended = CounterMetricFamily(
            PREFIX + "tasks_ended_total", "Tasks that ended since the start.", labels=["type", "state", "datastore"]
        )
        for key, count in sorted(self._ended.items()):
            ended.add_metric(key, count)
        last = GaugeMetricFamily(
            PREFIX + "task_last_end_time_seconds",
            "When the last task of a type ended in a state, since the start.",
            labels=["type", "state"],
        )
        for pair, moment in sorted(self._ended_at.items()):
            last.add_metric(pair, moment)
        size = CounterMetricFamily(PREFIX + "task_bytes_total", "Bytes that ended tasks dealt with.", labels=["type"])
        for kind, done in sorted(self._bytes.items()):
            size.add_metric([kind], done)
        seconds = HistogramMetricFamily(
            PREFIX + "task_duration_seconds", "From a task's creation to its end, waiting included.", labels=["type"]
        )
        for kind, histogram in sorted(self._seconds.items()):
            seconds.add_metric([kind], histogram.buckets, histogram.total)
        return [ended, last, size, seconds]

    def _stage_families(self) -> list[Metric]:
        labels = ["type", "stage"]
        busy = CounterMetricFamily(
            PREFIX + "stage_busy_seconds_total", "Seconds that a stage of ended tasks worked.", labels=labels
        )
        wait = CounterMetricFamily(
            PREFIX + "stage_wait_seconds_total", "Seconds that a stage of ended tasks waited.", labels=labels
        )
        size = CounterMetricFamily(PREFIX + "stage_bytes_total", "Bytes through a stage of ended tasks.", labels=labels)
        for key, one in sorted(self._stages.items()):
            busy.add_metric(key, one.busy_seconds)
            wait.add_metric(key, one.wait_seconds)
            size.add_metric(key, one.bytes)
        return [busy, wait, size]

    def _other_families(self) -> list[Metric]:
        events = CounterMetricFamily(PREFIX + "events_total", "What happened.", labels=["source", "severity"])
        for key, count in sorted(self._events.items()):
            events.add_metric(key, count)
        lines = CounterMetricFamily(PREFIX + "log_lines_total", "Lines logged.", labels=["role", "level"])
        for key, count in sorted(self._lines.copy().items()):
            lines.add_metric(key, count)
        delay = HistogramMetricFamily(
            PREFIX + "loop_delay_seconds",
            "How long a task that could run waited for the event loop, sampled every few seconds.",
        )
        delay.add_metric([], self._delay.buckets, self._delay.total)
        return [events, lines, delay]


def _count(counter: Counter[Any], key: tuple[str, ...]) -> None:
    if key not in counter and len(counter) >= limits.METRICS_SERIES_MAX:
        key = (_OTHER,) * len(key)
    counter[key] += 1
