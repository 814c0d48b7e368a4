"""Metric families about datastores: space, chunks, snapshots, checks, collection. Pure; for `services.metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from ibs.core.modes import Mode
from ibs.core.tasks import ENDED_STATES
from ibs.services.metrics_counters import PREFIX
from ibs.services.metrics_survey import StoreFigures, Survey, seconds_of
from ibs.wire.gc import GcRunView

_FIGURES: Final[Sequence[tuple[str, str, Callable[[StoreFigures], float | None]]]] = (
    ("bytes", "Size of the file system.", lambda one: one.space.bytes_total),
    ("bytes_free", "Free bytes of the file system.", lambda one: one.space.bytes_free),
    ("inodes", "Inodes of the file system; 0 where they are not counted.", lambda one: one.space.inodes_total),
    ("inodes_free", "Free inodes of the file system.", lambda one: one.space.inodes_free),
    ("quota_bytes", "Bytes that the tightest quota allows.", lambda one: one.space.quota_bytes_total),
    ("quota_bytes_free", "Bytes left of the tightest quota.", lambda one: one.space.quota_bytes_free),
    ("quota_inodes", "Inodes that the tightest quota allows.", lambda one: one.space.quota_inodes_total),
    ("quota_inodes_free", "Inodes left of the tightest quota.", lambda one: one.space.quota_inodes_free),
    ("chunks", "Chunks that are served.", lambda one: one.counts.chunks),
    ("chunk_bytes", "Their bytes as stored.", lambda one: one.counts.stored_bytes),
    ("chunks_received", "Chunks that are not durable yet.", lambda one: one.counts.received),
    ("chunks_corrupt", "Chunks known to be CORRUPT.", lambda one: one.counts.bad),
    ("chunks_missing", "Chunks known to be MISSING.", lambda one: one.counts.missing),
    ("chunks_suspect", "Chunks that a client could not authenticate.", lambda one: one.counts.suspect),
    ("trash_chunks", "Chunks in trash.", lambda one: one.counts.retired),
    ("trash_bytes", "Bytes in trash: what `gc start --reclaim now` frees.", lambda one: one.counts.retired_bytes),
    ("bin_snapshots", "Forgotten snapshots in the recycle bin.", lambda one: one.gc.bin_snapshots),
    ("groups", "Backup groups.", lambda one: one.stats.groups),
    ("snapshots", "Snapshots.", lambda one: one.stats.snapshots),
    ("plain_bytes", "What the snapshots would take without dedup and compression.", lambda one: one.stats.plain_bytes),
    ("dedup_ratio", "Plain bytes by stored bytes: dedup and compression.", lambda one: one.stats.dedup_ratio),
    ("sessions_open", "Backups under way.", lambda one: one.stats.open_sessions),
    ("sessions_interrupted", "Interrupted backups that can go on.", lambda one: one.stats.interrupted_sessions),
    ("growth_bytes_per_day", "By which free space shrinks a day.", lambda one: one.stats.growth_bytes_per_day),
    ("gc_running", "1 while garbage is collected.", lambda one: one.gc.state in ("running", "paused")),
    ("gc_interrupted", "1 when the last collection was cut off.", lambda one: one.gc.state == "interrupted"),
    ("expiry_stopped", "1 while nothing leaves trash or bin by itself.", lambda one: bool(one.gc.waits)),
)
_VERIFY: Final = ("ok", "corrupt", "missing", "stale", "never")


def standing(stores: Sequence[tuple[str, str, str]]) -> list[Metric]:
    """Whether datastores are online, and what people hold them to."""
    online = GaugeMetricFamily(PREFIX + "datastore_online", "1 unless the datastore is offline.", labels=["datastore"])
    writable = GaugeMetricFamily(PREFIX + "datastore_writable", "1 while backups are taken.", labels=["datastore"])
    mode = GaugeMetricFamily(PREFIX + "datastore_mode", "1 for the mode it is in.", labels=["datastore", "mode"])
    for name, status, held in stores:
        online.add_metric([name], status != "offline")
        writable.add_metric([name], status == "online")
        for known in Mode:
            mode.add_metric([name, known.value], held == known.value)
    return [online, writable, mode]


def surveyed(survey: Survey | None) -> list[Metric]:
    """Figures of the last look; nothing before the first."""
    if survey is None:
        return []
    return [
        _one("survey_time_seconds", "When the datastores were looked at last.", survey.at.timestamp()),
        _one("survey_duration_seconds", "How long that took.", survey.seconds),
        *_figures(survey.stores),
        *_collections(survey.stores),
        *_verifications(survey.stores),
        *_places(survey.stores),
        *_runs(survey),
    ]


def _figures(stores: dict[str, StoreFigures]) -> list[Metric]:
    found: list[Metric] = []
    for name, told, read in _FIGURES:
        family = GaugeMetricFamily(f"{PREFIX}datastore_{name}", told, labels=["datastore"])
        for store, one in stores.items():
            value = read(one)
            if value is not None:
                family.add_metric([store], value)
        found.append(family)
    return found


def _collections(stores: dict[str, StoreFigures]) -> list[Metric]:
    ended = GaugeMetricFamily(
        PREFIX + "datastore_gc_last_end_time_seconds", "When garbage was collected last.", labels=["datastore"]
    )
    ok = GaugeMetricFamily(PREFIX + "datastore_gc_last_ok", "1 when that ended OK.", labels=["datastore"])
    freed = GaugeMetricFamily(PREFIX + "datastore_gc_last_freed_bytes", "Bytes that it freed.", labels=["datastore"])
    seconds = GaugeMetricFamily(
        PREFIX + "datastore_gc_last_duration_seconds", "How long it took.", labels=["datastore"]
    )
    for store, one in stores.items():
        last: GcRunView | None = one.gc.last
        end = seconds_of(last.ended) if last is not None else None
        if last is None or end is None:
            continue
        ended.add_metric([store], end)
        ok.add_metric([store], last.result == "OK")
        freed.add_metric([store], last.freed_bytes)
        seconds.add_metric([store], max(0.0, end - (seconds_of(last.started) or end)))
    return [ended, ok, freed, seconds]


def _verifications(stores: dict[str, StoreFigures]) -> list[Metric]:
    results = GaugeMetricFamily(
        PREFIX + "datastore_verify_snapshots",
        "Snapshots by the result of their last verification.",
        labels=["datastore", "result"],
    )
    oldest = GaugeMetricFamily(
        PREFIX + "datastore_verify_oldest_time_seconds", "The oldest of the last checks.", labels=["datastore"]
    )
    rate = GaugeMetricFamily(
        PREFIX + "datastore_verify_bytes_per_second", "How fast the last run read.", labels=["datastore"]
    )
    need = GaugeMetricFamily(
        PREFIX + "datastore_verify_pass_seconds", "How long a full pass takes at that rate.", labels=["datastore"]
    )
    window = GaugeMetricFamily(
        PREFIX + "datastore_verify_window_seconds", "The window it has to fit.", labels=["datastore"]
    )
    for store, one in stores.items():
        seen = one.outlook
        if seen is None:
            continue
        for result in _VERIFY:
            results.add_metric([store, result.upper() if result != "never" else result], getattr(seen, result))
        window.add_metric([store], seen.window_days * 86_400)
        when = seconds_of(seen.oldest_check)
        if when is not None:
            oldest.add_metric([store], when)
        if seen.rate_bytes:
            rate.add_metric([store], seen.rate_bytes)
            need.add_metric([store], seen.pass_seconds)
    return [results, oldest, rate, need, window]


def _places(stores: dict[str, StoreFigures]) -> list[Metric]:
    labels = ["datastore", "namespace"]
    groups = GaugeMetricFamily(PREFIX + "namespace_groups", "Backup groups of a namespace.", labels=labels)
    snapshots = GaugeMetricFamily(PREFIX + "namespace_snapshots", "Snapshots of a namespace.", labels=labels)
    newest = GaugeMetricFamily(PREFIX + "namespace_newest_snapshot_time_seconds", "Its newest snapshot.", labels=labels)
    stalest = GaugeMetricFamily(
        PREFIX + "namespace_stalest_group_time_seconds",
        "The newest snapshot of the group whose newest snapshot is the oldest.",
        labels=labels,
    )
    group = GaugeMetricFamily(
        PREFIX + "group_newest_snapshot_time_seconds", "The newest snapshot of a group.", labels=[*labels, "group"]
    )
    for store, one in stores.items():
        for namespace, place in one.places.items():
            groups.add_metric([store, namespace], place.groups)
            snapshots.add_metric([store, namespace], place.snapshots)
            newest.add_metric([store, namespace], place.newest)
            stalest.add_metric([store, namespace], place.stalest)
        for (namespace, name), moment in one.groups.items():
            group.add_metric([store, namespace, name], moment)
    return [groups, snapshots, newest, stalest, group]


def _runs(survey: Survey) -> list[Metric]:
    labels = ["type", "datastore"]
    ended = GaugeMetricFamily(
        PREFIX + "last_run_end_time_seconds", "When the last task of a type on a datastore ended.", labels=labels
    )
    state = GaugeMetricFamily(
        PREFIX + "last_run_state", "1 for the state in which it ended.", labels=[*labels, "state"]
    )
    for (kind, store), task in sorted(survey.runs.items()):
        ended.add_metric([kind, store], seconds_of(task.ended) or 0.0)
        for known in sorted(ENDED_STATES):
            state.add_metric([kind, store, known.value], task.state == known.value)
    return [ended, state]


def _one(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, told, value=value)
