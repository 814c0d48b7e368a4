"""Metric families about the server itself: roles, loop, tasks, worker, certificate. Pure; for `services.metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ibs.core import limits
from ibs.core.names import parse_time
from ibs.core.tasks import ENDED_STATES, TaskState, TaskType
from ibs.engine.task import Task
from ibs.runtime.bus import Subscription
from ibs.runtime.stall import StallStatistics
from ibs.runtime.supervisor import ServiceState, State
from ibs.services.metrics_counters import PREFIX
from ibs.services.metrics_survey import seconds_of
from ibs.version import VERSION
from ibs.wire.hosts import HostView
from ibs.wire.system import WorkerView

_ONLINE, _NEVER_JOINED = "online", "never joined"


def about(node: str, started: datetime, certificate_expires: datetime) -> list[Metric]:
    """Who the server is, since when, and how long its certificate is good."""
    info = GaugeMetricFamily(PREFIX + "info", "The server; always 1.", labels=["version", "node"])
    info.add_metric([VERSION, node], 1)
    return [
        info,
        _one("start_time_seconds", "When the server started.", started.timestamp()),
        _one(
            "certificate_expiry_time_seconds", "When the server's certificate expires.", certificate_expires.timestamp()
        ),
    ]


def services(states: Sequence[ServiceState]) -> list[Metric]:
    """The roles."""
    up = GaugeMetricFamily(PREFIX + "service_up", "1 while the role is active (running).", labels=["role"])
    state = GaugeMetricFamily(PREFIX + "service_state", "1 for the state the role is in.", labels=["role", "state"])
    restarts = CounterMetricFamily(PREFIX + "service_restarts_total", "Restarts of the role.", labels=["role"])
    mailbox = GaugeMetricFamily(
        PREFIX + "service_mailbox_messages", "Messages that the role has not come to yet.", labels=["role"]
    )
    for one in states:
        up.add_metric([one.role], one.state is State.RUNNING)
        for known in State:
            state.add_metric([one.role, str(known)], one.state is known)
        restarts.add_metric([one.role], one.restarts)
        mailbox.add_metric([one.role], one.mailbox)
    return [up, state, restarts, mailbox]


def loop(seen: StallStatistics) -> list[Metric]:
    """Stalls of the event loop."""
    stalls = CounterMetricFamily(PREFIX + "loop_stalls_total", "Steps that held the event loop for over 50 ms.")
    stalls.add_metric([], seen.stalls)
    return [stalls, _one("loop_stall_longest_seconds", "The longest of them.", seen.longest_ms / 1000)]


def bus(subscriptions: Sequence[Subscription[Any]]) -> list[Metric]:
    """Who listens to events, and whether they keep up."""
    waiting = GaugeMetricFamily(
        PREFIX + "events_waiting", "Events that a listener has not come to yet.", labels=["listener"]
    )
    lost = CounterMetricFamily(
        PREFIX + "events_lost_total", "Events that a listener was too slow for.", labels=["listener"]
    )
    listeners: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for one in subscriptions:
        listeners[one.name] += one.waiting
        missed[one.name] += one.lost
    for name, count in sorted(listeners.items()):
        waiting.add_metric([name], count)
        lost.add_metric([name], missed[name])
    return [waiting, lost]


def open_tasks(tasks: Sequence[Task], now: datetime) -> list[Metric]:
    """Tasks that have not ended, and how long the oldest of a state waits or runs."""
    count: Counter[tuple[str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    done: Counter[str] = Counter()
    for task in tasks:
        key = (str(task.type), str(task.state))
        count[key] += 1
        done[str(task.type)] += task.record.figures.done_bytes
        oldest[key] = max(oldest.get(key, 0.0), now.timestamp() - task.record.started_ns / 1e9)
    number = GaugeMetricFamily(PREFIX + "tasks", "Tasks that have not ended.", labels=["type", "state"])
    age = GaugeMetricFamily(
        PREFIX + "task_oldest_seconds", "Age of the oldest task that has not ended.", labels=["type", "state"]
    )
    size = GaugeMetricFamily(
        PREFIX + "tasks_done_bytes", "Bytes that tasks which have not ended dealt with so far.", labels=["type"]
    )
    for kind in TaskType:
        size.add_metric([kind.value], done[kind.value])
        for state in TaskState:
            if state not in ENDED_STATES:
                pair = (kind.value, state.value)
                number.add_metric(pair, count[pair])
                age.add_metric(pair, oldest.get(pair, 0.0))
    return [number, age, size]


def worker(view: WorkerView | None) -> list[Metric]:
    """Slots and queue; nothing when the worker does not answer."""
    if view is None:
        return []
    return [
        _one("worker_slots", "Backups that may run at once.", view.slots),
        _one("worker_slots_busy", "Slots in which something runs.", len(view.running)),
        _one("worker_queue_tasks", "Tasks that wait for a slot.", len(view.queued)),
        _one("worker_queue_oldest_time_seconds", "When the task that waits longest was made; 0: none.", _oldest(view)),
    ]


def hosts(views: Sequence[HostView]) -> list[Metric]:
    """Hosts with an agent, and the server itself. At most METRICS_SERIES_MAX."""
    up = GaugeMetricFamily(PREFIX + "host_up", "1 while the host's agent is heard.", labels=["host"])
    contact = GaugeMetricFamily(
        PREFIX + "host_last_contact_time_seconds", "When the host's agent was heard last.", labels=["host"]
    )
    running = GaugeMetricFamily(PREFIX + "host_tasks", "Tasks given to the host.", labels=["host"])
    for one in views[: limits.METRICS_SERIES_MAX]:
        if one.state == _NEVER_JOINED:
            continue  # invited, and nothing is expected of it yet
        up.add_metric([one.name], one.state == _ONLINE)
        running.add_metric([one.name], len(one.running))
        when = seconds_of(one.last_contact)
        if when is not None:
            contact.add_metric([one.name], when)
    return [up, contact, running]


def _oldest(view: WorkerView) -> float:
    return min((parse_time(task.started).timestamp() for task in view.queued), default=0.0)


def _one(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, told, value=value)
