"""Hosts as rows, and a join token that can be used once whatever happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ibs.catalog.catalog import Catalog
from ibs.catalog.hosts import HostRecord
from ibs.core import limits
from ibs.errors import ConflictError, NotFoundError

INVITED = HostRecord("web01", 5, ("web", "prod"), "shop", invite_digest=b"d" * 32, invite_expires_ns=100)


async def test_rows_come_back_as_they_were(catalog: Catalog) -> None:
    joined = replace(INVITED, auth_id="agent-web01@ibs!agent", joined_ns=7, version="1", system="Linux", address="::1")
    await catalog.hosts.put(HostRecord("db01", 1))
    await catalog.hosts.put(INVITED)
    await catalog.hosts.put(joined)
    assert list(await catalog.hosts.list()) == [HostRecord("db01", 1), joined]
    await catalog.hosts.contacts({"web01": 99, "nobody": 1})
    assert (await catalog.hosts.list())[1].last_contact_ns == 99
    await catalog.hosts.remove("db01")
    with pytest.raises(NotFoundError, match="no host db01"):
        await catalog.hosts.remove("db01")


async def test_an_invitation_is_used_once_and_in_time(catalog: Catalog) -> None:
    await catalog.hosts.put(INVITED)
    assert not await catalog.hosts.use_invite("web01", b"x" * 32, 50)
    assert not await catalog.hosts.use_invite("web02", b"d" * 32, 50)
    assert not await catalog.hosts.use_invite("web01", b"d" * 32, 100)
    assert await catalog.hosts.use_invite("web01", b"d" * 32, 99)
    assert not await catalog.hosts.use_invite("web01", b"d" * 32, 99)
    assert (await catalog.hosts.list())[0].invite_used_ns == 99


async def test_there_is_a_bound(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HOSTS_MAX", 1)
    await catalog.hosts.put(INVITED)
    await catalog.hosts.put(replace(INVITED, project="other"))
    with pytest.raises(ConflictError, match="1 hosts already"):
        await catalog.hosts.put(HostRecord("db01", 1))


def test_the_digest_is_never_shown() -> None:
    assert "ddd" not in repr(INVITED)
