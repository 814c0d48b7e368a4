"""Symptoms S20, S21: mail that does not arrive, a webhook that answers 5xx; found and cured by commands."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibs_tests.support.programs import ServerProcess, running_server, start_server
from ibs_tests.support.receivers import http_receiver, mail_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("drill") / "server") as running:
        yield running


def until(fact: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


def target(server: ServerProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.admin("notification", "target", "show", name, "--output", "json").json()
    return found


def make_store(server: ServerProcess, name: str) -> None:
    """Something to tell: an event about a datastore."""
    server.admin("datastore", "create", name, "--path", str(server.folder / name))


def test_s20_mail_that_does_not_arrive_is_explained_by_a_test(server: ServerProcess) -> None:
    with mail_server() as mails:
        server.admin(
            *("notification", "target", "create", "smtp", "ops-smtp", "--host", "127.0.0.1"),
            *("--port", str(mails.port), "--tls", "none", "--from", "ibs@example.com", "--to", "ops@example.com"),
        )
        mails.refuse = "550 no such user here"
        command = ("notification", "target", "test", "ops-smtp", "--recipient", "admin@example.com")
        failed = server.admin(*command, check=1)
        assert "550 no such user here" in failed.err
        kept = target(server, "ops-smtp")["test"]
        assert not kept["ok"]
        assert "550 no such user here" in kept["message"]
        assert "550 no such user here" in (server.folder / "log" / "notify.log").read_text()
        listed = server.admin("notification", "history", "list", "--output", "json").json()
        assert (listed[0]["state"], listed[0]["target"]) == ("failed", "ops-smtp")

        mails.refuse = None
        server.admin(*command)
        assert target(server, "ops-smtp")["test"]["ok"]
        recipients, content = mails.arrived[-1]
        assert recipients == ["admin@example.com"]
        assert b"text/plain" in content
        assert b"text/html" in content
    server.admin("notification", "target", "remove", "ops-smtp")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_s21_a_webhook_that_fails_is_disabled_and_gets_everything_once_enabled(
    server: ServerProcess, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush")
    with http_receiver() as posts:
        posts.status = 503
        server.admin(
            *("notification", "target", "create", "webhook", "chat", "--url", posts.url, "--attempts", "2"),
            *("--retry-seconds", "0.1", "--secret-file", str(secret)),
        )
        server.admin("notification", "rule", "set", "all", "--severity", "notice", "--target", "chat")
        make_store(server, "s21a")
        until(lambda: not target(server, "chat")["enabled"])
        assert "503" in target(server, "chat")["disabled_why"]
        assert "disabled after 2 failed attempts" in server.admin("notification", "inbox").out
        make_store(server, "s21b")

        rows = server.admin("notification", "history", "list", "--target", "chat", "--output", "json").json()
        tried = next(row for row in rows if row["attempts"])
        shown = server.admin("notification", "history", "show", str(tried["id"])).out
        line = next(line for line in shown.splitlines() if line.startswith(f"curl -X POST {posts.url}"))
        assert "hush-hush" not in shown + json.dumps(target(server, "chat"))
        assert b"hush-hush" not in (server.state / "state.db").read_bytes()

        posts.status = 204
        subprocess.run(line, shell=True, check=True, cwd=tmp_path, capture_output=True)
        headers, body = posts.arrived.pop()
        assert "s21a" in body.decode()
        assert headers["X-IBS-Signature"] == "sha256=" + hmac.new(b"hush-hush", body, hashlib.sha256).hexdigest()

        server.admin("notification", "target", "enable", "chat")
        until(lambda: target(server, "chat")["waiting"] == 0)
        told = [one["text"] for _, body in posts.arrived for one in json.loads(body)["events"]]
        assert any("s21a" in text for text in told)
        assert any("s21b" in text for text in told)
        assert all("X-IBS-Signature" in headers for headers, _ in posts.arrived)


def test_a_killed_server_delivers_what_waited(tmp_path: Path) -> None:
    with http_receiver() as posts:
        posts.status = 500
        with running_server(tmp_path / "server") as server:
            server.admin("notification", "target", "create", "webhook", "chat", "--url", posts.url)
            server.admin("notification", "rule", "set", "all", "--severity", "notice", "--target", "chat")
            make_store(server, "kept")
            until(lambda: target(server, "chat")["failures"])
            waiting = {row["id"] for row in server.admin("notification", "history", "list", "-o", "json").json()}
            server.kill()
        posts.status = 204
        again = start_server(tmp_path / "server")
        try:
            again.admin("notification", "target", "enable", "chat")
            until(lambda: target(again, "chat")["waiting"] == 0)
            told = [one["text"] for _, body in posts.arrived for one in json.loads(body)["events"]]
            assert any("kept" in text for text in told)
            rows = again.admin("notification", "history", "list", "-o", "json").json()
            assert waiting <= {row["id"] for row in rows if row["state"] == "sent"}
        finally:
            again.stop()


def test_everything_of_a_target_and_a_rule_can_be_set_and_changed(server: ServerProcess, tmp_path: Path) -> None:
    pin = ":".join(["ab"] * 32)
    create = ("notification", "target", "create")
    server.admin(*create, "smtp", "box", "--host", "mx", "--from", "a@b.example", "--to", "c@d.example")
    key, empty = tmp_path / "key", tmp_path / "empty"
    key.write_text("hush\n")
    empty.write_text("")
    changed = {
        "host": "mx2.example",
        "port": 2525,
        "tls": "implicit",
        "username": "ops",
        "sender": "ibs@b.example",
        "recipients": ["e@f.example", "g@h.example"],
        "fingerprint": pin,
        "digest_seconds": 1800,
        "attempts_max": 4,
        "retry_seconds": 30.0,
    }
    words = ("--host", "mx2.example", "--port", "2525", "--tls", "implicit", "--username", "ops")
    more = ("--from", "ibs@b.example", "--to", "e@f.example", "--to", "g@h.example", "--fingerprint", pin)
    rest = ("--digest", "30m", "--attempts", "4", "--retry-seconds", "30", "--secret-file", str(key))
    server.admin("notification", "target", "update", "box", *words, *more, *rest)
    found = target(server, "box")
    assert {name: found["spec"][name] for name in changed} == changed
    assert found["has_secret"]
    back = ("--digest", "0", "--fingerprint", "", "--username", "", "--ca-file", str(empty), "--comment", "old box")
    server.admin("notification", "target", "update", "box", *back)
    found = target(server, "box")
    assert (found["spec"]["digest_seconds"], found["spec"]["fingerprint"], found["has_secret"]) == (0, "", True)
    assert "old box" in server.admin("notification", "target", "show", "box").out
    server.admin("notification", "target", "update", "box", "--secret-file", str(empty))
    assert not target(server, "box")["has_secret"]
    refused = server.admin("notification", "target", "update", "box", check=None)
    assert (refused.status, "nothing to change" in refused.err) == (2, True)

    rule = ("notification", "rule", "set", "night", "--target", "box", "--severity", "info")
    server.admin(*rule, "--window", "22:00-06:00", "--time-zone", "Europe/Vienna")
    assert "22:00-06:00 Europe/Vienna" in server.admin("notification", "rule", "list").out
    wrong = server.admin(*rule, "--window", "tonight", check=None)
    assert (wrong.status, "write it like 22:00-06:00" in wrong.err) == (2, True)
    server.admin("notification", "rule", "remove", "night")
    server.admin("notification", "target", "remove", "box")
