"""Families about the server: states as one-hot rows, ages of tasks, a worker that does not answer."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from ibs.runtime.bus import Bus
from ibs.runtime.stall import StallStatistics
from ibs.runtime.supervisor import ServiceState, State
from ibs.services import metrics_server
from ibs.wire.hosts import HostView
from ibs.wire.system import TaskView, WorkerView
from ibs_tests.unit.services.test_metrics_counters import values

NOW = datetime(2026, 11, 22, 19, tzinfo=UTC)


def test_roles_by_state() -> None:
    states = [
        ServiceState("gc", "d", State.RUNNING, NOW, 0, "", 2),
        ServiceState("sync", "d", State.FAILED, NOW, 10, "gone", 0),
    ]
    found = metrics_server.services(states)
    assert values(found, "service_up") == {("gc",): 1, ("sync",): 0}
    state = values(found, "service_state")
    assert (state["sync", "failed"], state["sync", "active (running)"], state["gc", "active (running)"]) == (1, 0, 1)
    assert values(found, "service_restarts_total") == {("gc",): 0, ("sync",): 10}
    assert values(found, "service_mailbox_messages")["gc",] == 2


def test_open_tasks_and_the_age_of_the_oldest() -> None:
    def task(state: str, age: int) -> Any:
        began = int((NOW.timestamp() - age) * 1e9)
        record = SimpleNamespace(started_ns=began, figures=SimpleNamespace(done_bytes=5))
        return SimpleNamespace(type="backup", state=state, record=record)

    found = metrics_server.open_tasks([task("queued", 10), task("queued", 70), task("running", 3)], NOW)
    assert values(found, "tasks")["queued", "backup"] == 2
    assert values(found, "tasks")["Starting", "backup"] == 0
    assert values(found, "task_oldest_seconds")["queued", "backup"] == 70
    assert values(found, "tasks_done_bytes")["backup",] == 15


def test_the_worker_when_it_answers_and_when_not() -> None:
    waiting = TaskView(upid="U", type="backup", id="x", auth_id="a@ibs", state="queued", started="2026-11-22T18:59:00Z")
    found = metrics_server.worker(WorkerView(slots=4, running=[], queued=[waiting]))
    assert values(found, "worker_slots") == {(): 4}
    assert values(found, "worker_queue_tasks") == {(): 1}
    assert values(found, "worker_queue_oldest_time_seconds") == {(): NOW.timestamp() - 60}
    assert metrics_server.worker(None) == []


def test_identity_loop_and_listeners() -> None:
    found = metrics_server.about("node1", NOW, NOW) + metrics_server.loop(StallStatistics(3, 250.0, "x"))
    (labels,) = values(found, "info")
    assert "node1" in labels
    assert values(found, "certificate_expiry_time_seconds") == {(): NOW.timestamp()}
    assert values(found, "loop_stalls_total") == {(): 3}
    assert values(found, "loop_stall_longest_seconds") == {(): 0.25}
    bus: Bus[int] = Bus()
    bus.subscribe("notify", slots=1)
    for number in range(3):
        bus.publish(number)
    told = metrics_server.bus(bus.subscriptions)
    assert (values(told, "events_waiting"), values(told, "events_lost_total")) == ({("notify",): 1}, {("notify",): 2})


def test_hosts_that_never_joined_are_not_missed() -> None:
    found = metrics_server.hosts(
        [
            HostView(name="own", state="online", built_in=True),
            HostView(name="web01", state="silent", last_contact="2026-11-22T19:00:00Z", running=["UPID"]),
            HostView(name="web02", state="never joined"),
        ]
    )
    assert values(found, "host_up") == {("own",): 1, ("web01",): 0}
    assert values(found, "host_last_contact_time_seconds") == {("web01",): NOW.timestamp()}
    assert values(found, "host_tasks")["web01",] == 1
