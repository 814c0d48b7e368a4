"""Settings of the client: repositories parse whole or not at all; secrets come from the right place, kept private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ibs.client.config import (
    Credentials,
    Login,
    Logins,
    PinnedBy,
    Repository,
    Server,
    given_secret,
    local_server,
    resolve_repository,
    resolve_server,
)
from ibs.errors import NotAuthenticated, ServerUnreachable, UsageError

FP = "ab:cd"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("h:store", Repository(Server("h"), "store")),
        ("h:1234:store", Repository(Server("h", 1234), "store")),
        ("a@ibs!t@h:store", Repository(Server("h"), "store", "a@ibs!t")),
        ("a@ibs@[::1]:8007:s.1", Repository(Server("[::1]", 8007), "s.1", "a@ibs")),
    ],
)
def test_repository_forms(text: str, wanted: Repository) -> None:
    assert Repository.parse(text) == wanted
    assert Repository.parse(str(wanted)) == wanted


@pytest.mark.parametrize("text", ["", "store", ":store", "h:", "h:99999:s", "h:0:s", "h:../x", "a b:s", "h:1:2:s"])
def test_bad_repositories_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Repository.parse(text)


def test_logins_are_private_and_replaced_whole(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "c" / "logins.json")
    assert logins.get(Server("h")) is None
    logins.save(Server("h"), Login(FP, "a@ibs!t", "s"))
    logins.save(Server("i"), Login(FP, "b@ibs!t", "s2"))
    assert stat.S_IMODE(logins.path.stat().st_mode) == 0o600
    assert logins.get(Server("h")) == Login(FP, "a@ibs!t", "s")
    assert logins.remove(Server("h"))
    assert not logins.remove(Server("h"))
    assert list(logins.all()) == ["i:8007"]
    logins.path.chmod(0o644)
    with pytest.raises(UsageError, match="may be read by others"):
        logins.all()
    logins.path.chmod(0o600)
    logins.path.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        logins.all()


def test_a_coming_certificate_is_kept_with_its_login_only(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "logins.json")
    logins.repin(Server("h"), "ef")
    assert logins.all() == {}
    logins.save(Server("h"), Login(FP, "a@ibs!t", "s"))
    logins.repin(Server("h"), f"{FP},ef")
    assert logins.get(Server("h")) == Login(f"{FP},ef", "a@ibs!t", "s")
    environment = {"IBS_TOKEN": "a@ibs!t:s"}
    assert resolve_server("h", None, environment, logins).pinned_by is PinnedBy.LOGIN
    given = resolve_server("h", None, environment | {"IBS_FINGERPRINT": FP}, logins)
    assert (given.fingerprint, given.pinned_by) == (FP, PinnedBy.ENVIRONMENT)


def test_local_server_reads_what_the_server_wrote(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="no server runs"):
        local_server(tmp_path)
    (tmp_path / "server.json").write_text('{"address":"127.0.0.1:4711","fingerprint":"ab:cd","pid":1}')
    (tmp_path / "root.token").write_text("root@ibs!local:top\n")
    found = local_server(tmp_path)
    assert found == Credentials(Server("127.0.0.1", 4711), FP, "root@ibs!local", "top")
    assert "top" not in repr(found)


def test_server_by_name_needs_fingerprint_identity_and_secret(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "l.json")
    with pytest.raises(UsageError, match="fingerprint"):
        resolve_server("h", None, {}, logins)
    with pytest.raises(NotAuthenticated, match="no identity"):
        resolve_server("h", None, {"IBS_FINGERPRINT": FP}, logins)
    token = {"IBS_FINGERPRINT": FP, "IBS_TOKEN": "a@ibs!t:s:with:colons"}
    assert resolve_server("h", None, token, logins).secret == "s:with:colons"
    secret = tmp_path / "token"
    secret.write_text("a@ibs!t:filed\n")
    from_file = {"IBS_FINGERPRINT": FP, "IBS_TOKEN_FILE": str(secret), "IBS_SERVER": "h"}
    assert resolve_server(None, None, from_file, logins).secret == "filed"
    logins.save(Server("h"), Login(FP, "a@ibs!t", "saved"))
    assert resolve_server("h", None, {}, logins).secret == "saved"


def test_repository_of_another_identity_does_not_take_the_saved_secret(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "l.json")
    logins.save(Server("h"), Login(FP, "a@ibs!t", "saved"))
    assert resolve_repository("h:s", {}, logins)[1].secret == "saved"
    with pytest.raises(NotAuthenticated, match="no secret for b@ibs!t"):
        resolve_repository("b@ibs!t@h:s", {}, logins)
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    assert resolve_repository("b@ibs!t@h:s", {}, logins, ask)[1].secret == "typed"
    assert "b@ibs!t" in asked[0]
    with pytest.raises(UsageError, match="no repository"):
        resolve_repository(None, {}, logins)


def test_secret_from_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(" word \n")
    assert given_secret({"IBS_SECRET_FILE": str(tmp_path / "s")}) == "word"
    assert given_secret({"IBS_SECRET": "x", "IBS_SECRET_FILE": "/nowhere"}) == "x"
    with pytest.raises(UsageError):
        given_secret({"IBS_SECRET_FILE": str(tmp_path / "none")})


def test_the_state_folder_comes_from_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match=str(tmp_path)):
        resolve_server(None, None, {"IBS_STATE_DIR": str(tmp_path)}, Logins(tmp_path / "l.json"))
