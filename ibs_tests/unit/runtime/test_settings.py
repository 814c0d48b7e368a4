"""Option, then environment, then file, then default; anything odd is refused with the known words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.errors import UsageError
from ibs.runtime import settings
from ibs.runtime.settings import load_settings, parse_listen


def test_defaults_of_a_user_are_xdg_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = load_settings(environment={})
    assert found.state_dir == tmp_path / "state" / "ironcore-backup"
    assert found.log_dir == found.state_dir / "log"
    assert (found.listen_host, found.listen_port) == ("0.0.0.0", 8007)
    assert not found.fault_injection


def test_defaults_of_root_are_system_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(settings, "_read_file", lambda _config, *, root: settings._File() if root else None)
    found = load_settings(environment={})
    assert found.state_dir == Path("/var/lib/ironcore-backup")
    assert found.log_dir == Path("/var/log/ironcore-backup")


def test_a_state_dir_of_its_own_is_enough(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("")
    found = load_settings(config=tmp_path / "c.toml", state_dir=tmp_path / "state", environment={})
    assert found.log_dir == tmp_path / "state" / "log"


def test_option_beats_environment_beats_file(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(
        'state_dir = "/from/file"\nlog_dir = "/log/file"\nlisten = "127.0.0.1:1"\nworker_slots = 9\n'
        'log_level = "debug"\nnode = "web.example"\nfault_injection = true\n'
    )
    environment = {"IBS_CONFIG": str(config), "IBS_LISTEN": "127.0.0.1:2", "IBS_STATE_DIR": "/from/env"}
    found = load_settings(listen="127.0.0.1:3", environment=environment)
    assert found.state_dir == Path("/from/env")
    assert found.log_dir == Path("/log/file")
    assert found.listen_port == 3
    assert load_settings(environment=environment).listen_port == 2
    assert (found.worker_slots, found.log_level, found.node) == (9, "debug", "web-example")
    assert found.fault_injection


def test_logs_may_go_to_stderr(tmp_path: Path) -> None:
    assert load_settings(state_dir=tmp_path, log_dir=Path("-"), environment={}).log_dir is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("listn = 'x'", "listn"),
        ("worker_slots = 0", "worker_slots 0 is out of range"),
        ("agent_grace_seconds = 1", "agent_grace_seconds 1 is out of range"),
        ("worker_slots = 'four'", "worker_slots"),
        ("log_level = 'loud'", "log_level 'loud' is not known"),
        ("listen = 'nowhere'", "listen address 'nowhere' is not valid"),
        ("= broken", "is not valid"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "server.toml"
    config.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_settings(config=config, state_dir=tmp_path, environment={})
    assert caught.value.hint


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_settings(config=tmp_path / "none.toml", environment={})
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(config=tmp_path, environment={})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [(":8007", "0.0.0.0", 8007), ("[::1]:0", "::1", 0), ("backup.example:443", "backup.example", 443)],
)
def test_listen_addresses(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == (host, port)


@pytest.mark.parametrize("text", ["8007", "host", "host:", "host:99999", "a b:1", "::1:80"])
def test_listen_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="listen address"):
        parse_listen(text)


def test_a_node_name_always_fits_a_upid() -> None:
    assert settings._node("host_01.local") == "host-01-local"
    assert settings._node("--") == "localhost"
    assert len(settings._node("x" * 200)) == 63
