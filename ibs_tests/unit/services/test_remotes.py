"""Remotes against a real server on TLS: pinned by certificate and by signing key, and told when either changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ibs.control.app import create_app
from ibs.control.routes import datastores, system
from ibs.errors import (
    NoSpace,
    NotAuthenticated,
    NotAuthorised,
    ServerUnreachable,
    SignatureInvalid,
    TlsFingerprintMismatch,
    UsageError,
)
from ibs.security.secrets import load_secrets
from ibs.services.remotes import Remotes
from ibs.wire.remotes import RemoteSet
from ibs_tests.support.control import Certificates, FakeContext, Served, serving
from ibs_tests.unit.services.conftest import House


def remotes_of(house: House, folder: Path) -> Remotes:
    return Remotes(house.catalog.remotes, load_secrets(folder), clock=house.clock, publish=house.publish)


def wanted(served: Served, **more: object) -> RemoteSet:
    facts = {
        "name": "site-b",
        "host": "127.0.0.1",
        "port": served.port,
        "auth_id": "b@ibs!t",
        "secret": "secret",
        "fingerprint": served.fingerprint,
    }
    return RemoteSet(**(facts | more))  # type: ignore[arg-type]


async def test_a_remote_is_reached_and_its_keys_are_pinned(house: House, tmp_path: Path) -> None:
    context = FakeContext()
    context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, (*system.routes, *datastores.routes))  # type: ignore[arg-type]
    remotes = remotes_of(house, tmp_path)
    async with serving(app, Certificates.make(tmp_path / "tls")) as served:
        made = await remotes.create(wanted(served))
        assert (made.signer, made.last_contact) == ("", "")
        assert b"secret" not in (await house.catalog.remotes.get("site-b")).sealed
        found = await remotes.test("site-b")
        assert (found.auth_id, found.signer) == ("b@ibs!t", context.signer)
        assert found.datastores
        assert (await remotes.show("site-b")).signer == context.signer
        with pytest.raises(NoSpace):
            async with remotes.connect("site-b"):
                raise NoSpace("datastore main", "bytes")
        assert (await remotes.show("site-b")).trouble == "", "what is wrong here is not the remote's"
        context.signer = "ab" * 32
        with pytest.raises(SignatureInvalid, match="another key than before"):
            await remotes.test("site-b")
        assert "another key" in (await remotes.show("site-b")).trouble
        await remotes.update(RemoteSet(name="site-b", secret="wrong"))
        with pytest.raises(NotAuthenticated) as caught:
            await remotes.test("site-b")
        assert "remote update --name site-b --secret-file" in caught.value.hint
        await remotes.update(RemoteSet(name="site-b", secret="secret"))
        context.signer = made.signer or found.signer
        with pytest.raises(NotAuthorised) as refused:
            async with remotes.connect("site-b") as (api, _row):
                await api.delete("/datastores/main")
        assert "that is what remote site-b says; grant it there" in refused.value.hint


async def test_another_certificate_gets_no_byte_and_one_event(house: House, tmp_path: Path) -> None:
    context = FakeContext()
    context.access.grant("b@ibs!t", "Audit", "/")
    app = create_app(context, (*system.routes, *datastores.routes))  # type: ignore[arg-type]
    remotes = remotes_of(house, tmp_path)
    async with serving(app, Certificates.make(tmp_path / "tls")) as served:
        other = "ab:" * 31 + "ab"
        await remotes.create(wanted(served, fingerprint=other))
        for _ in range(2):
            with pytest.raises(TlsFingerprintMismatch, match="remote site-b") as caught:
                await remotes.test("site-b")
        assert caught.value.details == {"pinned": other, "offered": served.fingerprint}
        assert f"remote update --name site-b --fingerprint {served.fingerprint}" in caught.value.hint
        assert [event.kind for event in house.events] == ["remote.fingerprint"]
        assert context.asked == []
        await remotes.update(RemoteSet(name="site-b", fingerprint=served.fingerprint.upper()))
        await remotes.test("site-b")
        assert (await remotes.show("site-b")).trouble == ""


async def test_a_silent_remote_is_noted(house: House, tmp_path: Path) -> None:
    async with serving(create_app(FakeContext(), tuple(system.routes)), Certificates.make(tmp_path / "tls")) as served:  # type: ignore[arg-type]
        gone = served
    remotes = remotes_of(house, tmp_path)
    await remotes.create(wanted(gone))
    with pytest.raises(ServerUnreachable):
        await remotes.test("site-b")
    assert "cannot be reached" in (await remotes.show("site-b")).trouble
    await remotes.remove("site-b")
    assert await remotes.list() == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"host": "a/b"},
        {"port": 0},
        {"port": 70000},
        {"auth_id": "nobody"},
        {"secret": "a b"},
        {"secret": ""},
        {"secret": "x" * 300},
        {"fingerprint": "aa"},
        {"comment": "a\nb"},
        {"host": None},
    ],
    ids=str,
)
async def test_what_is_wrong_changes_nothing(house: House, tmp_path: Path, change: dict[str, object]) -> None:
    remotes = remotes_of(house, tmp_path)
    good = RemoteSet(name="b", host="b", port=1, auth_id="s@ibs!t", secret="s", fingerprint="ab:" * 31 + "ab")
    with pytest.raises(UsageError):
        await remotes.create(replace_wire(good, change))
    assert await remotes.list() == []
    await remotes.create(good)
    if "name" not in change and change != {"host": None} and change != {"secret": ""}:
        with pytest.raises(UsageError):
            await remotes.update(replace_wire(good, change))
    assert len(await remotes.list()) == 1


def replace_wire(body: RemoteSet, change: dict[str, object]) -> RemoteSet:
    return RemoteSet(**({name: getattr(body, name) for name in body.__struct_fields__} | change))  # type: ignore[arg-type]


async def test_the_signing_key_is_learned_anew_with_a_new_server_only(house: House, tmp_path: Path) -> None:
    remotes = remotes_of(house, tmp_path)
    await remotes.create(
        RemoteSet(name="b", host="b", port=1, auth_id="s@ibs!t", secret="s", fingerprint="ab:" * 31 + "ab")
    )
    row = await house.catalog.remotes.get("b")
    await house.catalog.remotes.update(replace(row, signer="cd" * 32))
    assert (await remotes.update(RemoteSet(name="b", comment="there"))).signer == "cd" * 32
    assert (await remotes.update(RemoteSet(name="b", fingerprint="ac:" * 31 + "ab"))).signer == ""
