"""Metric families about notification targets. Pure; for `services.metrics`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ibs.services.deliveries import TargetFigures
from ibs.services.metrics_counters import PREFIX


def targets(rows: Sequence[TargetFigures]) -> list[Metric]:
    """Who is told, and whether that works. The number of targets is bounded."""
    labels = ["target"]
    enabled = GaugeMetricFamily(
        PREFIX + "notification_target_enabled", "0 while a target is disabled and its messages wait.", labels=labels
    )
    failures = GaugeMetricFamily(
        PREFIX + "notification_target_failures", "Deliveries that failed in a row.", labels=labels
    )
    waiting = GaugeMetricFamily(
        PREFIX + "notification_messages_waiting", "Messages that a target has still to get.", labels=labels
    )
    oldest = GaugeMetricFamily(
        PREFIX + "notification_oldest_waiting_time_seconds", "When the oldest of them happened.", labels=labels
    )
    sent = CounterMetricFamily(
        PREFIX + "notification_messages_sent_total", "Messages that a target took since the start.", labels=labels
    )
    failed = CounterMetricFamily(
        PREFIX + "notification_attempts_failed_total", "Deliveries that failed since the start.", labels=labels
    )
    for row in rows:
        enabled.add_metric([row.name], row.enabled)
        failures.add_metric([row.name], row.failures)
        waiting.add_metric([row.name], row.waiting)
        if row.waiting:
            oldest.add_metric([row.name], row.oldest_ns / 1e9)
        sent.add_metric([row.name], row.sent)
        failed.add_metric([row.name], row.failed)
    return [enabled, failures, waiting, oldest, sent, failed]
