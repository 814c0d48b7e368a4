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
