"""Whatever a server does, people can be told of it: events of every source reach a real receiver, by rules and mail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import AuthResult

from ibs.core.events import EventSource
from ibs.security.pinning import pinned_context
from ibs_tests.support.control import Certificates
from ibs_tests.support.programs import ServerProcess, running_server
from ibs_tests.support.receivers import Posts, http_receiver, mail_server

NOT_YET = {EventSource.TAPE}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("told")
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_bytes(b"something" * 1000)
    with running_server(folder / "server") as running:
        yield running


def until(fact: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


def events(posts: Posts) -> list[dict[str, Any]]:
    return [event for _, body in tuple(posts.arrived) for event in json.loads(body)["events"]]


def pull_from_itself(server: ServerProcess, folder: Path) -> None:
    credential = server.make_token("sync", ("/datastore/main", "Datastore.Reader"))
    auth_id, _, secret = credential.rpartition(":")
    (folder / "secret").write_text(secret)
    host, _, port = str(server.facts["address"]).rpartition(":")
    server.admin(
        *("remote", "create", "--name", "self", "--host", host, "--port", port, "--auth-id", auth_id),
        *("--fingerprint", str(server.facts["fingerprint"]), "--secret-file", str(folder / "secret")),
    )
    server.admin("sync", "pull", "--remote", "self", "--source", "main", "--store", "copy")


def test_events_of_every_source_are_heard(server: ServerProcess, tmp_path: Path) -> None:
    with http_receiver() as posts:
        server.admin("notification", "target", "create", "webhook", "all", "--url", posts.url)
        server.admin("notification", "rule", "set", "all", "--severity", "info", "--target", "all")
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "main"))
        server.admin("datastore", "create", "copy", "--path", str(tmp_path / "copy"))
        tree = server.folder.parent / "tree"
        made = server.client("main", "backup", f"t.tree:{tree}", "--output", "json").json()["snapshot"]
        server.client("main", "restore", made, "t.tree", str(tmp_path / "back"))
        server.admin("verify", "start", "main")
        pull_from_itself(server, tmp_path)
        server.admin("service", "restart", "gc")
        context = pinned_context(server.facts["fingerprint"])
        with httpx.Client(base_url=server.url, verify=context, trust_env=False) as stranger:
            wrong = {"Authorization": "Bearer nobody@ibs!x:wrong"}
            assert stranger.get("/api/v1/datastores", headers=wrong).status_code == 401
        wanted = {str(source) for source in EventSource} - NOT_YET
        until(lambda: wanted <= {event["source"] for event in events(posts)})
        server.admin("notification", "rule", "remove", "all")
        server.admin("notification", "target", "remove", "all")
    kinds = {(event["source"], event["kind"]) for event in events(posts)}
    for source in ("backup", "restore", "verify", "sync"):
        assert (source, "task.ended") in kinds


def test_the_failure_of_one_job_is_mailed_to_its_people_with_tls_and_login(
    server: ServerProcess, tmp_path: Path
) -> None:
    """As the guide has it: nobody else is told, and nobody is told of another job."""

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ibs", b"pass word"), handled=False)

    certificates = Certificates.make(tmp_path)
    (tmp_path / "password").write_text("pass word\n")
    tls = {"tls_context": certificates.server, "authenticator": check, "auth_required": True}
    with http_receiver() as posts, mail_server(**tls) as mails:
        server.admin("notification", "target", "create", "webhook", "others", "--url", posts.url)
        server.admin(
            *("notification", "target", "create", "smtp", "db-team", "--host", "127.0.0.1", "--port", str(mails.port)),
            *("--from", "ibs@example.com", "--to", "db@example.com", "--fingerprint", certificates.fingerprint),
            *("--username", "ibs", "--secret-file", str(tmp_path / "password")),
        )
        server.admin("notification", "target", "test", "db-team")
        rule = ("notification", "rule", "set", "databases", "--source", "backup", "--severity", "error")
        server.admin(*rule, "--job", "nightly-db", "--target", "db-team")
        server.admin("datastore", "create", "jobs", "--path", str(tmp_path / "jobs"))
        for name in ("other", "nightly-db"):
            source = ("--path", str(tmp_path / "not-there"))
            server.admin("job", "create", name, "--store", "jobs", *source)
            server.admin("job", "run", name, check=None)
        until(lambda: len(mails.arrived) >= 2)
        assert server.admin("notification", "target", "show", "others", "-o", "json").json()["waiting"] == 0
    assert not posts.arrived
    (_, tested), (recipients, content) = mails.arrived
    assert b"a test of the notification target db-team" in tested
    assert recipients == ["db@example.com"]
    message = message_from_bytes(content)
    assert "error" in str(message["Subject"])
    text = message.get_payload(0).get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "job: nightly-db" in text
    assert "other" not in text
