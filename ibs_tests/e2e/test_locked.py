"""A stolen credential of the administrator: with it every route is tried on a locked snapshot, and it stays whole."""

from __future__ import annotations

import time
from pathlib import Path

from ibs.control.routes import ALL
from ibs_tests.e2e.test_append_only import World, request
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.treecmp import tree_differences
from ibs_tests.support.trees import many_files

# It changes what the rest of this test would have to pin anew; it touches no datastore.
ELSEWHERE = {"certificate_renew"}


def _working(server: ServerProcess) -> list[str]:
    """What runs by itself; sessions and readers that were opened wait for a client that is not there."""
    rows = server.admin("task", "list", "--state", "running", "-o", "json").json()
    return [row["upid"] for row in rows if row["type"] not in {"backup", "restore"}]


def test_root_tries_every_route(tmp_path: Path) -> None:
    many_files(tmp_path / "tree", seed=5, count=20)
    store = tmp_path / "store"
    with running_server(tmp_path / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(store))
        command = ("backup", f"t.tree:{tmp_path / 'tree'}", "--backup-id", "kept", "--output", "json")
        snapshot = server.client("main", *command).json()["snapshot"]
        server.admin("namespace", "compliance", "set", "main", "--for", "30d")
        world = World(server, store, tmp_path / "tree", server.token, snapshot, snapshot)
        before = world.contents()
        done = set()
        # What detaches the datastore comes last: it would hide all the others from it.
        for route in sorted(ALL, key=lambda one: one.operation == "datastore_remove"):
            if route.operation not in ELSEWHERE and not route.path.startswith("/services"):
                with world.http() as http:
                    answer = request(http, route, snapshot)
                assert answer.status_code != 500, (route.operation, answer.text)
                done |= {route.operation} if answer.is_success else set()
        assert {"snapshot_change", "gc_start", "prune_run", "clock_confirm", "compliance_set"} & done
        assert "snapshot_forget" not in done
        deadline = time.monotonic() + 60
        while _working(server) and time.monotonic() < deadline:
            time.sleep(0.2)
        after = world.contents()
        # Who owns the group may change; what is in it may not.
        kept = {name: digest for name, digest in before.items() if not name.endswith("owner.json")}
        assert {name: after.get(name) for name in kept} == kept
        server.admin("datastore", "adopt", "main", "--path", str(store), check=None)
        for mode in ("maintenance", "release"):
            server.admin("datastore", mode, "main", check=None)
        target = tmp_path / "back"
        restored = server.client("main", "restore", snapshot, "t.tree", str(target), check=None)
        assert restored.status == 0, (restored.err, sorted(done))
        assert tree_differences(str(tmp_path / "tree"), str(target)) == []
