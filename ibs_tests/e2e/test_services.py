"""The process as an operator sees it: roles die and come back alone, SIGTERM is orderly, one server a state folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, finish, module_command, running_server, start_server
from ibs_tests.support.trees import many_files, settle

ROLES = ("api", "scheduler", "worker", "verifier", "gc", "sync", "notify")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("services"), config="fault_injection = true\n") as running:
        yield running


def http(server: ServerProcess) -> httpx.Client:
    headers = {"Authorization": f"Bearer {server.token}"}
    context = pinned_context(server.facts["fingerprint"])
    return httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, verify=context, trust_env=False)


def services(server: ServerProcess) -> dict[str, Any]:
    """The roles as the API tells them, asking again while the api role itself is down."""
    while True:
        try:
            with http(server) as client:
                rows = client.get("/status").json()["services"]
        except httpx.TransportError:
            continue
        return {row["role"]: row for row in rows}


def wait_for(what: Callable[[], bool], seconds_max: float = 30) -> None:
    deadline = time.monotonic() + seconds_max
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "api"])
def test_a_killed_role_restarts_and_the_others_do_not_notice(server: ServerProcess, role: str) -> None:
    before = services(server)
    with http(server) as client:
        killed = client.post(f"/services/{role}/fault")
        assert killed.status_code == 200
        seen = {row["role"]: row for row in client.get("/status").json()["services"]}
    assert seen[role]["state"] == "activating (auto-restart)"
    wait_for(lambda: services(server)[role]["state"] == "active (running)")
    after = services(server)
    assert after[role]["restarts"] == before[role]["restarts"] + 1
    assert "injected" in after[role]["last_error"].lower()
    for other in ROLES:
        if other != role:
            assert after[other]["restarts"] == before[other]["restarts"]
            assert after[other]["since"] == before[other]["since"]


def test_the_api_role_comes_back_on_its_port(server: ServerProcess) -> None:
    before = services(server)
    with http(server) as client, contextlib.suppress(httpx.TransportError):
        client.post("/services/api/fault")
    wait_for(lambda: services(server)["api"]["restarts"] == before["api"]["restarts"] + 1)
    after = services(server)
    assert after["api"]["state"] == "active (running)"
    assert [after[role]["restarts"] for role in ROLES[1:]] == [before[role]["restarts"] for role in ROLES[1:]]


def test_every_role_has_its_log(server: ServerProcess) -> None:
    for role in ROLES:
        lines = [json.loads(line) for line in (server.folder / "log" / f"{role}.log").read_text().splitlines()]
        assert lines
        assert all(line["role"] == role for line in lines)


def test_fault_injection_is_off_unless_configured(tmp_path: Path) -> None:
    with running_server(tmp_path) as plain, http(plain) as client:
        refused = client.post("/services/gc/fault")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_a_second_server_on_the_same_state_is_refused(server: ServerProcess) -> None:
    command = [*module_command("ironcore-backup"), "serve", "--state-dir", str(server.state), "--listen", "127.0.0.1:0"]
    refused = finish(command, server.environment, None)
    assert refused.status in (3, 6)
    assert refused.err.startswith("error: ")
    assert "Traceback" not in refused.err
    assert services(server)["api"]["state"] == "active (running)"


def test_sigterm_is_orderly_and_a_new_start_finds_everything(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    many_files(tree, seed=2, count=50)
    first = start_server(tmp_path / "server")
    first.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
    settle(tree)
    first.client("main", "backup", f"t.tree:{tree}", "--backup-id", "x")
    tasks = first.admin("task", "list", "--output", "json").json()
    assert first.stop() == 0
    assert not (first.state / "server.json").exists()
    with running_server(tmp_path / "server") as second:
        assert second.facts["fingerprint"] == first.facts["fingerprint"]
        assert second.token == first.token
        kept = {row["upid"] for row in second.admin("task", "list", "--output", "json").json()}
        assert {row["upid"] for row in tasks} <= kept
        again = second.client("main", "backup", f"t.tree:{tree}", "--backup-id", "x", "--output", "json").json()
        assert again["files_read"] == 0


def test_a_port_in_use_is_told(server: ServerProcess, tmp_path: Path) -> None:
    address = server.facts["address"]
    command = [*module_command("ironcore-backup"), "serve", "--state-dir", str(tmp_path), "--listen", address]
    refused = finish(command, server.environment, None)
    assert refused.status == 6
    assert f"cannot listen on {address}" in refused.err
