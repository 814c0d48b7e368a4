"""A real server: every change and refusal leaves a row, the chain shows tampering, a full log refuses changes only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs.errors import ExitStatus
from ibs_tests.support.programs import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("audit")
    with running_server(folder / "server") as running:
        yield running


def rows(server: ServerProcess, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.admin("audit", "list", *options, "--output", "json").json()
    return found


def test_a_change_is_a_row_with_who_what_and_from_where(server: ServerProcess, tmp_path: Path) -> None:
    server.admin("datastore", "create", "aud", "--path", str(tmp_path / "store"))
    [row] = rows(server, "--action", "datastore_create")
    assert row["auth_id"].startswith("root@ibs")
    assert row["peer"] == "127.0.0.1"
    assert row["outcome"] == "ok"
    assert row["after"]["name"] == "aud"
    shown = server.admin("audit", "show", str(row["n"])).out
    assert "datastore_create" in shown
    assert row["hash"] in shown


def test_secrets_of_a_new_token_are_in_no_row(server: ServerProcess) -> None:
    server.admin("user", "create", "anna@ibs")
    made = server.admin("token", "create", "anna@ibs!one", "--output", "json").json()
    exported = server.admin("audit", "export").out
    assert "token_create" in exported
    assert made["secret"] not in exported
    assert server.token.rpartition(":")[2] not in exported


def test_a_refusal_is_a_row_and_reading_is_none(server: ServerProcess) -> None:
    before = len(rows(server))
    server.admin("status")
    assert len(rows(server)) == before
    wrong = {"IBS_TOKEN": "nobody@ibs!x:wrong", "IBS_FINGERPRINT": server.facts["fingerprint"]}
    server.admin("datastore", "list", "--server", server.url, check=ExitStatus.REFUSED, **wrong)
    [row] = rows(server, "--outcome", "refused")
    assert (row["action"], row["code"], row["auth_id"]) == ("datastore_list", "not-authenticated", "")


def test_the_chain_is_whole_and_names_the_line_that_was_changed(server: ServerProcess) -> None:
    assert "audit log: OK" in server.admin("audit", "verify").out
    [path] = (server.state / "audit").glob("audit-*.jsonl")
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0].replace(b'"ok"', b'"no"'), *lines[1:]]))
    try:
        done = server.admin("audit", "verify", check=None)
        assert done.status == ExitStatus.FAILED
        assert f"DAMAGED, {path.name} line 1: row 1 was changed" in done.out
        path.write_bytes(b"".join(lines[:-1]))
        done = server.admin("audit", "verify", check=None)
        assert f"rows {len(lines)} to {len(lines)} are missing at the end" in done.out
    finally:
        path.write_bytes(content)
    assert "audit log: OK" in server.admin("audit", "verify").out


def told(server: ServerProcess, action: str, *command: str) -> tuple[Any, Any]:
    """Before and after of the row that a command leaves."""
    server.admin(*command)
    row = rows(server, "--action", action)[0]
    assert row["outcome"] == "ok"
    return row["before"], row["after"]


def test_before_and_after_of_what_people_set(server: ServerProcess, tmp_path: Path) -> None:
    server.admin("datastore", "create", "was", "--path", str(tmp_path / "store"))
    server.admin("user", "create", "bert@ibs")
    assert told(server, "user_change", "user", "disable", "bert@ibs") == ({"enabled": True}, {"enabled": False})
    rule = ("/datastore/was", "Audit", "bert@ibs")
    _, after = told(server, "acl_grant", "acl", "grant", *rule)
    assert after["roles"] == ["Audit"]
    before, _ = told(server, "acl_revoke", "acl", "revoke", *rule)
    assert before["roles"] == ["Audit"]
    server.admin("retention", "set", "was", "--keep-last", "3")
    before, after = told(server, "retention_set", "retention", "set", "was", "--keep-last", "5")
    assert "3" in before["text"]
    assert "5" in after["text"]
    before, after = told(server, "worker_set", "worker", "set", "--slots", "7")
    assert before["slots"] != after["slots"] == 7
    before, after = told(server, "datastore_quarantine", "datastore", "quarantine", "was", "--reason", "odd noise")
    assert before["mode"] == "normal"
    assert (after["mode"], after["reason"]) == ("quarantined", "odd noise")
    server.admin("datastore", "release", "was", "--cause", "a fan")


def test_before_and_after_of_a_job_and_a_group_of_targets(server: ServerProcess, tmp_path: Path) -> None:
    server.admin("datastore", "create", "jobs", "--path", str(tmp_path / "store"))
    made = ("job", "create", "nightly", "--host", "localhost", "--path", str(tmp_path), "--store", "jobs")
    server.admin(*made, "--schedule", "daily")
    before, after = told(server, "job_update", "job", "update", "nightly", "--schedule", "hourly")
    assert (before["spec"]["schedule"], after["spec"]["schedule"]) == ("daily", "hourly")
    assert "store" not in before["spec"], "what stayed as it was only hides the rest"
    before, after = told(server, "job_remove", "job", "remove", "nightly")
    assert before["spec"]["schedule"] == "hourly"
    assert after is None
