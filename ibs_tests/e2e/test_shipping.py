"""Figures, events and log lines reach a real InfluxDB and a real push gateway; trouble with them is told once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.metricservers import fetch, free_port, influx, needs_metric_servers, pushgateway
from ibs_tests.support.programs import ServerProcess, running_server

pytestmark = needs_metric_servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("shipping")
    with running_server(folder / "server", config='node = "site-a"\n') as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        yield running


def until(fact: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return found


def told(server: ServerProcess, text: str) -> int:
    """How often people were told that."""
    return sum(text in row["text"] for row in server.admin("notification", "inbox", "--output", "json").json())


def test_influxdb_gets_figures_events_and_logs(server: ServerProcess, tmp_path: Path) -> None:
    target = ("notification", "target")
    with influx(tmp_path / "influx") as database:
        where = ("--url", database.write, "--every", "5s", "--logs", "info")
        server.admin(*target, "create", "metric", "influx", *where)
        assert "accepted" in server.admin(*target, "test", "influx").out
        until(lambda: database.rows("SELECT * FROM ibs_event WHERE kind = 'notify.test'"))
        online = until(lambda: database.rows("SELECT * FROM ironcore_backup_datastore_online"))
        assert (online[0]["host"], online[0]["datastore"], online[0]["value"]) == ("site-a", "main", 1)
        server.admin("datastore", "probe", "main")
        server.admin("datastore", "quarantine", "main", "--reason", 'a "quoted" reason, with = and \\')
        server.admin("datastore", "release", "main", "--cause", "none")
        lines = until(lambda: database.rows("SELECT * FROM ibs_log WHERE event =~ /quoted/"))
        assert lines[0]["server"] == "site-a"
        assert 'a "quoted" reason, with = and \\' in lines[0]["event"]
        secret = server.token.rpartition(":")[2]
        assert not [row for row in database.rows("SELECT * FROM ibs_log") if secret in str(row)]
        server.admin(*target, "remove", "influx")


def test_a_push_gateway_has_all_figures_and_its_absence_is_told_once(server: ServerProcess) -> None:
    port = free_port()
    name = 'ironcore_backup_datastore_online{datastore="main",instance="site-a",job="ironcore-backup"} 1'
    with pushgateway(port) as url:
        server.admin("notification", "target", "create", "pushgateway", "push", "--url", url, "--every", "5s")
        until(lambda: name in fetch(f"{url}/metrics").decode())
        assert "accepted" in server.admin("notification", "target", "test", "push").out
    until(lambda: told(server, "figures and logs do not reach target push"))
    with pushgateway(port) as url:
        until(lambda: name in fetch(f"{url}/metrics").decode())
        until(lambda: told(server, "target push takes figures and logs again"))
    assert told(server, "figures and logs do not reach target push") == 1
    row = server.admin("notification", "target", "show", "push", "--output", "json").json()
    assert (row["waiting"], row["enabled"]) == (0, True), "events are not for it"
    rule = server.admin("notification", "rule", "set", "r", "--target", "push", check=None)
    assert (rule.status, "takes no events" in rule.err) == (2, True)
    server.admin("notification", "target", "remove", "push")
