"""A real scrape of a real server: everything is there, and the shipped rules and panels ask for nothing that is not."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.trees import many_files, settle

CONTRIB = Path(__file__).parents[2] / "contrib"
RULES = CONTRIB / "prometheus" / "alerts.yml"
DASHBOARD = CONTRIB / "grafana" / "ironcore-backup.json"
_SUFFIXES = ("_bucket", "_count", "_sum")
_GRAFANA = re.compile(r"\$(?:\{\w+\}|\w+)")
SCRAPED_BY = {"instance", "job"}
"""Labels that Prometheus adds, and its own metric `up`."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With a datastore, a backup in a namespace, a verification and a collection."""
    folder = tmp_path_factory.mktemp("metrics")
    many_files(folder / "tree", seed=3, count=20)
    settle(folder / "tree")
    with running_server(folder / "server", config="metrics_groups = true\n") as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        running.client("main", "backup", f"t.tree:{folder / 'tree'}", "--backup-id", "web01")
        nowhere = ("--url", "http://127.0.0.1:1/x", "--retry-seconds", "3600")
        running.admin("notification", "target", "create", "webhook", "chat", *nowhere)
        running.admin("datastore", "quarantine", "main", "--reason", "something to tell")
        running.admin("datastore", "release", "main", "--cause", "none")
        running.admin("verify", "start", "main")
        running.admin("gc", "start", "main")
        yield running


def scrape(server: ServerProcess, credential: str = "", path: str = "/metrics") -> httpx.Response:
    headers = {"Authorization": f"Bearer {credential or server.token}"}
    context = pinned_context(server.facts["fingerprint"])
    with httpx.Client(base_url=server.url, headers=headers, verify=context, trust_env=False) as client:
        return client.get(path)


def samples(server: ServerProcess) -> dict[str, list[dict[str, Any]]]:
    """Labels and value of each sample, by its name; a family without samples has an empty list."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for family in families(scrape(server).text):
        found.setdefault(family.name if family.type != "counter" else f"{family.name}_total", [])
        for sample in family.samples:
            found[sample.name].append({**sample.labels, "": sample.value})
    return dict(found)


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


@pytest.fixture(scope="module")
def scraped(server: ServerProcess) -> dict[str, list[dict[str, Any]]]:
    """A scrape that already knows of the backup, the verification and the collection."""
    deadline = time.monotonic() + 60
    while True:
        found = samples(server)
        runs = {row["type"] for row in found.get("ironcore_backup_last_run_end_time_seconds", [])}
        if {"backup", "verify", "gc"} <= runs:
            return found
        assert time.monotonic() < deadline, "the figures of the datastore did not come"
        time.sleep(0.5)


def value(scraped: dict[str, list[dict[str, Any]]], name: str, **labels: str) -> float:
    (row,) = [row for row in scraped[f"ironcore_backup_{name}"] if row | labels == row]
    return float(row[""])


def test_the_tables_as_figures(server: ServerProcess, scraped: dict[str, list[dict[str, Any]]]) -> None:
    stats = server.admin("datastore", "stats", "main", "--output", "json").json()
    assert value(scraped, "datastore_chunks", datastore="main") == stats["chunks"]
    assert value(scraped, "datastore_chunk_bytes", datastore="main") == stats["chunk_bytes"]
    assert value(scraped, "datastore_bytes", datastore="main") == stats["bytes_total"]
    assert value(scraped, "datastore_plain_bytes", datastore="main") == stats["plain_bytes"]
    assert value(scraped, "datastore_online", datastore="main") == 1
    assert value(scraped, "datastore_verify_snapshots", datastore="main", result="OK") == 1
    assert value(scraped, "datastore_gc_last_ok", datastore="main") == 1
    assert value(scraped, "namespace_snapshots", datastore="main", namespace="") == 1
    newest = value(scraped, "group_newest_snapshot_time_seconds", group="host/web01")
    assert newest == value(scraped, "namespace_newest_snapshot_time_seconds", namespace="")
    assert abs(time.time() - newest) < 3600
    assert value(scraped, "tasks_ended_total", type="backup", state="OK", datastore="main") == 1
    assert value(scraped, "stage_bytes_total", type="backup", stage="hash") > 0
    assert sum(row[""] for row in scraped["ironcore_backup_service_up"]) == 7
    assert [row[""] for row in scraped["ironcore_backup_host_up"]] == [1]
    assert value(scraped, "certificate_expiry_time_seconds") > time.time() + 9 * 365 * 86400
    assert scraped["process_resident_memory_bytes"][0][""] > 1 << 20
    assert value(scraped, "log_lines_total", role="api", level="info") > 0
    assert scraped["ironcore_backup_events_lost_total"]
    assert value(scraped, "notification_target_enabled", target="chat") == 1
    assert value(scraped, "notification_messages_waiting", target="chat") > 0
    assert time.time() - value(scraped, "notification_oldest_waiting_time_seconds", target="chat") < 3600


def test_a_slow_task_names_its_stage(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(os.urandom(40 << 20))
    server.client("main", "backup", f"t.tree:{tmp_path / 'tree'}", "--backup-id", "slow")
    server.client("main", "restore", "host/slow", "t.tree", str(tmp_path / "out"))
    for kind in ("backup", "restore"):
        task = server.admin("task", "list", "--type", kind, "--output", "json").json()[0]
        assert "slow" in task["id"]
        assert task["stages"]
        log = server.admin("task", "log", task["upid"]).out
        assert "time by stage: " in log
        assert "; most went into " in log


def test_prometheus_gets_in_as_the_documents_say(server: ServerProcess) -> None:
    auditor = server.make_token("prometheus", ("/system", "Audit"))
    answer = scrape(server, auditor)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert scrape(server, auditor, "/api/v1/metrics").status_code == 200
    assert scrape(server, server.make_token("other", ("/datastore/main", "Datastore.Audit"))).status_code == 403
    # What `tls_config` of contrib/prometheus/scrape.yml says: the certificate vouches for itself, under its own name.
    context = ssl.create_default_context(cafile=str(server.state / "tls.pem"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    port = server.facts["address"].rpartition(":")[2]
    with httpx.Client(verify=context, trust_env=False) as client:
        headers = {"Authorization": f"Bearer {auditor}"}
        assert client.get(f"https://localhost:{port}/metrics", headers=headers).status_code == 200


def test_a_scrape_never_names_a_secret_and_every_family_explains_itself(server: ServerProcess) -> None:
    text = scrape(server).text
    assert server.token.partition(":")[2] not in text
    found = families(text)
    assert len({family.name for family in found}) == len(found)
    for family in found:
        assert family.documentation
        assert family.name.startswith(("ironcore_backup_", "process_"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panel_expressions() -> list[str]:
    """As Grafana would ask: its variables stand for a match of anything."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [_GRAFANA.sub(".*", query) for query in queries]


class Selectors:
    """Collects what an expression selects: the metric's name, and the labels it matches."""

    def __init__(self) -> None:
        self.found: list[tuple[str, set[str]]] = []

    def pre_visit(self, node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            self.found.append((node.name, {one.name for one in node.matchers.matchers}))
        return True

    def post_visit(self, _node: Any) -> bool:
        return True


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Raises ValueError when it is no PromQL."""
    collected = Selectors()
    promql_parser.walk(promql_parser.parse(expression), collected.pre_visit, collected.post_visit)
    return collected.found


@pytest.mark.parametrize("source", ["rules", "panels"])
def test_what_rules_and_panels_ask_for_exists(scraped: dict[str, list[dict[str, Any]]], source: str) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [rule["expr"] for rule in rules()] if source == "rules" else panel_expressions()
    assert len(expressions) > 30
    for expression in expressions:
        chosen = selectors(expression)
        assert chosen, expression
        for name, labels in chosen:
            if name == "up" or name in recorded:
                continue
            rows = scraped.get(name)
            if rows is None and name.endswith(_SUFFIXES):  # a histogram of which nothing was counted yet
                rows = scraped.get(re.sub("_(bucket|count|sum)$", "", name))
            assert rows is not None, f"{name} of {expression} is in no scrape"
            known = set().union(*rows) if rows else labels
            assert labels - SCRAPED_BY <= known, f"labels of {name} in {expression}"


def test_every_alert_says_what_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
    symptoms = {rule["labels"].get("symptom") for rule in alerts}
    assert {"S1", "S2", "S3", "S5", "S6", "S17", "S18", "S19", "S28"} <= symptoms


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "instance", "datastore"}
    assert yaml.safe_load((CONTRIB / "prometheus" / "scrape.yml").read_text())["scrape_configs"][0]["metrics_path"]
