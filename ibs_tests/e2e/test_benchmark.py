"""`ironcore-backup-client benchmark` against a real server: figures each way, and afterwards nothing of it is left."""

from __future__ import annotations

import time
from pathlib import Path

from ibs_tests.support.programs import running_server

CLEANED_SECONDS_MAX = 90


def test_the_way_to_a_datastore_and_back(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        token = server.make_token("web", ("/datastore/main", "Datastore.Backup"))
        report = server.client("main", "benchmark", "--size", "16MiB", "--output", "json", credential=token).json()
        measured = {figure["part"]: figure["bytes"] for figure in report["figures"]}
        assert measured["upload"] == measured["download"] > 16 << 20
        assert measured["disk write"] == measured["disk read"] == 16 << 20
        assert {one["direction"] for one in report["bottlenecks"]} == {"backup", "restore"}
        assert server.client("main", "snapshot", "list", "--output", "json").json() == []
        [task] = server.admin("task", "list", "--type", "backup", "--output", "json").json()
        assert task["state"] == "CANCELLED"
        deadline = time.monotonic() + CLEANED_SECONDS_MAX
        while not server.admin("task", "list", "--type", "gc", "--output", "json").json():
            assert time.monotonic() < deadline
        chunks = [path for path in (tmp_path / "store" / "chunks").rglob("*") if path.is_file()]
        assert chunks == []
        assert not list((tmp_path / "store").rglob("benchmark-*"))
