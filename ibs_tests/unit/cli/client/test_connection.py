"""Which datastore and as whom: options, environment, and names with and without a namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli import common
from ibs.cli.client import connection as module
from ibs.cli.client.connection import connection, snapshot_name
from ibs.client.config import Credentials
from ibs.errors import NotAuthenticated, UsageError
from ibs_tests.support.fakeapi import FakeApi, install


async def test_the_repository_names_server_store_and_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    seen: list[Credentials] = []
    api = FakeApi()

    def connect(credentials: Credentials) -> FakeApi:
        seen.append(credentials)
        return api

    monkeypatch.setattr(common, "connect", connect)
    monkeypatch.setattr(module, "connect", connect)
    async with connection("a@ibs!t@host:9:other") as found:
        assert (found.store, found.api) == ("other", api)
    async with connection(None) as found:
        assert found.store == "main"
    assert [(str(one.server), one.auth_id, one.secret) for one in seen] == [
        ("host:9", "a@ibs!t", "secret"),
        ("127.0.0.1:1", "root@ibs!local", "secret"),
    ]


async def test_what_is_missing_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)
    monkeypatch.delenv("IBS_SECRET")
    with pytest.raises(NotAuthenticated, match="no secret"):
        async with connection(None):
            pass
    monkeypatch.delenv("IBS_REPOSITORY")
    with pytest.raises(UsageError, match="no repository given"):
        async with connection(None):
            pass


def test_a_namespace_of_the_name_wins() -> None:
    assert str(snapshot_name("host/web01", "")) == "host/web01"
    assert str(snapshot_name("host/web01", "a/b")) == "ns:a/b/host/web01"
    assert str(snapshot_name("ns:x/host/web01", "a")) == "ns:x/host/web01"
    with pytest.raises(UsageError):
        snapshot_name("web01", "")
