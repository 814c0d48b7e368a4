"""People log in with password and code from another machine; groups and roles of one's own decide what they may."""

from __future__ import annotations

import base64
from pathlib import Path

from ibs.runtime.clock import SystemClock
from ibs.security.totp import code
from ibs_tests.support.programs import Done, ServerProcess, finish, module_command, running_server


def as_person(server: ServerProcess, *words: str, check: int | None = 0, **environment: str) -> Done:
    """A command on another machine: nothing of the server's own folder is known there."""
    given = {"IBS_FINGERPRINT": server.facts["fingerprint"]} if words[0] == "login" else {}
    return finish([*module_command("ironcore-backup"), *words], server.environment | given | environment, check)


def test_a_person_logs_in_and_has_the_rights_of_its_group(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        address, password = server.facts["address"], "four words in a row"
        server.admin("user", "create", "anna@ibs")
        server.admin("user", "password", "anna@ibs", IBS_NEW_PASSWORD=password)
        server.admin("role", "create", "Watcher", "System.Audit", "Task.Audit")
        server.admin("usergroup", "create", "ops", "anna@ibs")
        server.admin("acl", "grant", "/system", "Watcher", "@ops")
        login = ("login", address, "--auth-id", "anna@ibs")
        assert "the login is not valid" in as_person(server, *login, check=3, IBS_SECRET="wrong").err
        as_person(server, *login, IBS_SECRET=password)
        assert "worker" in as_person(server, "status", "--server", address, "--services").out
        refused = as_person(server, "user", "list", "--server", address, check=3)
        assert "not authorised: anna@ibs lacks role Audit on /access" in refused.err
        why = as_person(server, "access", "explain", "anna@ibs", "/system", "System.Modify", "--server", address).out
        assert "@ops" in why
        assert "acl grant /system Admin anna@ibs" in why
        made = server.admin("user", "totp", "enable", "anna@ibs", "--output", "json").json()
        ended = as_person(server, "status", "--server", address, check=3)
        assert "not valid" in ended.err or "has ended" in ended.err
        assert "second factor is needed" in as_person(server, *login, check=3, IBS_SECRET=password).err
        as_person(server, *login, IBS_SECRET=password, IBS_CODE=made["recovery"][0])
        step = int(SystemClock().now().timestamp()) // 30
        now = code(base64.b32decode(made["secret"]), step)
        as_person(server, *login, IBS_SECRET=password, IBS_CODE=now)
        assert "worker" in as_person(server, "status", "--server", address, "--services").out
        server.admin("usergroup", "update", "ops", "--remove", "anna@ibs")
        as_person(server, "status", "--server", address, check=3)
