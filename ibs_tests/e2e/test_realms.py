"""A real directory decides about its users: logging in, what they may do then, and nothing when it is away."""

from __future__ import annotations

from pathlib import Path

from ibs_tests.support.directory import BASE, MANAGER, MANAGER_PASSWORD, needs_directory, slapd
from ibs_tests.support.programs import Done, ServerProcess, finish, module_command, running_server

pytestmark = needs_directory


def log_in(server: ServerProcess, folder: Path, who: str, password: str) -> Done:
    """`ironcore-backup login` of a person with a configuration folder of its own."""
    environment = server.environment | {
        "XDG_CONFIG_HOME": str(folder),
        "IBS_FINGERPRINT": str(server.facts["fingerprint"]),
        "IBS_SECRET": password,
    }
    command = [*module_command("ironcore-backup"), "login", str(server.facts["address"]), "--auth-id", who]
    return finish(command, environment, None)


def test_people_of_a_directory_log_in(tmp_path: Path) -> None:
    (tmp_path / "slapd").mkdir()
    with running_server(tmp_path / "server") as server:
        with slapd(tmp_path / "slapd") as directory:
            (tmp_path / "ca.pem").write_text(directory.ca)
            (tmp_path / "bind").write_text(MANAGER_PASSWORD)
            server.admin(
                *("realm", "create", "ldap", "corp", "--uri", directory.secure, "--ca-file", str(tmp_path / "ca.pem")),
                *("--user-dn", f"uid={{user}},ou=people,{BASE}"),
            )
            server.admin("realm", "test", "corp")
            assert "realm nowhere does not exist" in server.admin("user", "create", "anna@nowhere", check=2).err
            server.admin("user", "create", "anna@corp")
            kept = server.admin("user", "password", "anna@corp", check=2, IBS_NEW_PASSWORD="x" * 20)
            assert "kept by its realm" in kept.err
            assert "the login is not valid" in log_in(server, tmp_path / "a", "anna@corp", "wrong words").err
            assert log_in(server, tmp_path / "a", "anna@corp", "").status != 0
            done = log_in(server, tmp_path / "a", "anna@corp", "right words")
            assert done.status == 0, done
            assert "the login is not valid" in log_in(server, tmp_path / "b", "b+c@corp", "other words").err, (
                "no user here"
            )
            server.admin("acl", "grant", "/", "Audit", "anna@corp")
            mine = server.environment | {
                "XDG_CONFIG_HOME": str(tmp_path / "a"),
                "IBS_SERVER": str(server.facts["address"]),
            }
            assert finish([*module_command("ironcore-backup"), "status"], mine, None).status == 0
            server.admin(
                *("realm", "update", "corp", "--user-dn", "", "--base-dn", BASE, "--bind-dn", MANAGER),
                *("--bind-password-file", str(tmp_path / "bind")),
            )
            server.admin("realm", "test", "corp")
            assert log_in(server, tmp_path / "c", "anna@corp", "right words").status == 0
            assert MANAGER_PASSWORD not in server.admin("realm", "show", "corp", "--output", "json").out
            assert "anna@corp" in server.admin("realm", "remove", "corp", check=None).err
            rows = server.admin("audit", "list", "--output", "json").out
            assert MANAGER_PASSWORD not in rows
            assert "right words" not in rows
        away = log_in(server, tmp_path / "d", "anna@corp", "right words")
        assert away.status != 0
        assert "realm corp cannot be asked at the moment" in away.err
        assert server.admin("status").status == 0, "the built-in realm goes on"
        server.admin("user", "remove", "anna@corp")
        server.admin("realm", "remove", "corp")
