"""The register on a real catalog and real datastores: scopes, rotation, retiring, policies."""

from __future__ import annotations

import msgspec
import pytest

from ibs.core import limits_keys, publickey
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.core.names import SnapshotName, format_time
from ibs.errors import ConflictError, NotFoundError, SignatureInvalid, UsageError
from ibs.runtime.clock import ManualClock
from ibs.services.keys import Keys
from ibs.wire.keys import KeyPolicy, KeyRegister
from ibs_tests.support.engine import backup, key_registry
from ibs_tests.unit.services.conftest import House

OLD, NEW = DataKeys.from_root(b"o" * 32), DataKeys.from_root(b"n" * 32)
OLD_NAME, NEW_NAME = hex_fingerprint(OLD.fingerprint), hex_fingerprint(NEW.fingerprint)
CONTENT = {"etc.tree": [b"data", b"meta"]}


def register_of(house: House) -> Keys:
    return Keys(house.catalog.keys, clock=house.clock, publish=house.publish)


def request(keys: DataKeys = OLD, **more: str) -> KeyRegister:
    return KeyRegister(key=publickey.describe(keys, "web01"), **more)


async def test_a_key_is_taken_in_its_scope_only(house: House) -> None:
    keys = register_of(house)
    assert await keys.find("main", "", OLD_NAME) is None
    made = await keys.register("a@ibs", request(datastore="main", namespace="web"))
    assert (made.state, made.comment, made.scopes[0].added_by) == ("active", "web01", "a@ibs")
    for store, namespace, taken in (
        ("main", "web", True),
        ("main", "web/shop", True),
        ("main", "", False),
        ("main", "webshop", False),
        ("other", "web", False),
    ):
        assert (await keys.find(store, namespace, OLD_NAME) is not None) is taken, (store, namespace)
    found = await keys.find("main", "web", OLD_NAME)
    assert found is not None
    assert found.signer.hex() == made.signer
    await keys.register("a@ibs", request())
    assert await keys.find("other", "x", OLD_NAME)
    assert len((await keys.list())[0].scopes) == 2
    with pytest.raises(ConflictError, match="registered there already"):
        await keys.register("a@ibs", request())
    assert [event.kind for event in house.events if event.kind.startswith("key.")] == ["key.registered"] * 2


async def test_when_a_key_was_last_used_is_known_to_the_hour(house: House) -> None:
    clock = ManualClock()
    keys = Keys(house.catalog.keys, clock=clock, publish=house.publish)
    await keys.register("a@ibs", request(datastore="main", namespace="web"))
    await keys.register("a@ibs", request(datastore="other"))
    await keys.find("main", "", OLD_NAME)
    assert [(key.last_seen, [one.last_seen for one in key.scopes]) for key in await keys.list()] == [("", ["", ""])]
    first = format_time(clock.now())
    await keys.find("main", "web", OLD_NAME)
    clock.advance(limits_keys.KEY_SEEN_SECONDS - 1)
    await keys.find("main", "web", OLD_NAME)
    (key,) = await keys.list()
    assert key.last_seen == first
    assert {one.datastore: one.last_seen for one in key.scopes} == {"main": first, "other": ""}
    clock.advance(1)
    await keys.find("main", "web", OLD_NAME)
    assert (await keys.list())[0].last_seen == format_time(clock.now())


async def test_a_retired_key_keeps_when_it_was_last_used(house: House) -> None:
    clock = ManualClock()
    keys = Keys(house.catalog.keys, clock=clock, publish=house.publish)
    await keys.register("a@ibs", request())
    await keys.find("main", "", OLD_NAME)
    seen = (await keys.list())[0].last_seen
    clock.advance(limits_keys.KEY_SEEN_SECONDS)
    await keys.retire("a@ibs", OLD_NAME, house.datastores)
    assert await keys.find("main", "", OLD_NAME) is None
    assert (await keys.list())[0].last_seen == seen != ""


async def test_what_does_not_fit_changes_nothing(house: House) -> None:
    keys = register_of(house)
    mixed = msgspec.structs.replace(publickey.describe(OLD), comment="somebody else's")
    with pytest.raises(SignatureInvalid):
        await keys.register("a@ibs", KeyRegister(key=mixed))
    with pytest.raises(UsageError, match="one of a datastore"):
        await keys.register("a@ibs", request(namespace="web"))
    with pytest.raises(NotFoundError, match="no key"):
        await keys.register("a@ibs", request(NEW, replaces="aa:bb"))
    assert await keys.list() == []


async def test_rotation_both_are_taken_until_the_old_one_is_retired(house: House) -> None:
    keys = register_of(house)
    await keys.register("a@ibs", request(datastore="main", namespace="web"))
    with pytest.raises(UsageError, match="itself"):
        await keys.register("a@ibs", request(OLD, replaces=OLD_NAME))
    with pytest.raises(UsageError, match="scopes"):
        await keys.register("a@ibs", request(NEW, replaces=OLD_NAME, datastore="main"))
    new = await keys.register("a@ibs", request(NEW, replaces=OLD_NAME[:11]))
    assert [(scope.datastore, scope.namespace) for scope in new.scopes] == [("main", "web")]
    old = next(key for key in await keys.list() if key.fingerprint == OLD_NAME)
    assert (old.state, old.replaced_by) == ("replaced", NEW_NAME)
    assert await keys.find("main", "web", OLD_NAME)
    assert await keys.find("main", "web", NEW_NAME)
    retired = await keys.retire("b@ibs", OLD_NAME, house.datastores)
    assert (retired.state, retired.retired_by) == ("retired", "b@ibs")
    assert await keys.find("main", "web", OLD_NAME) is None
    assert await keys.find("main", "web", NEW_NAME)
    with pytest.raises(ConflictError, match="was retired"):
        await keys.register("a@ibs", request())
    assert await keys.retire("c@ibs", OLD_NAME, house.datastores) == retired


async def test_a_key_that_snapshots_need_is_retired_only_on_purpose(house: House) -> None:
    keys = register_of(house)
    await keys.register("a@ibs", request())
    await keys.register("a@ibs", request(NEW))
    known = key_registry(OLD, NEW)
    house.known_keys.known, house.known_keys.required = known.known, known.required
    store = await house.make_store()
    first = (await backup(store, CONTENT, keys=OLD)).snapshot
    second = (await backup(store, CONTENT, keys=OLD)).snapshot
    await backup(store, CONTENT, keys=NEW, group="host/new")

    with pytest.raises(ConflictError, match="2 snapshots need it") as refused:
        await keys.retire("b@ibs", OLD_NAME, house.datastores)
    assert refused.value.details["snapshots"] == [f"s1:{first}", f"s1:{second}"]
    assert f"s1:{first}" in refused.value.message
    assert "--force" in refused.value.hint
    assert await keys.find("s1", "", OLD_NAME)

    (needed,) = (await keys.show(OLD_NAME, house.datastores)).needed_by
    assert (needed.count, needed.groups, needed.newest_bytes) == (2, 1, sum(map(len, CONTENT["etc.tree"])))
    await store.bin.put(SnapshotName.parse(first), "b@ibs")
    (needed,) = (await keys.show(OLD_NAME, house.datastores)).needed_by
    assert needed.snapshots == [second, f"{first} (in the bin)"]  # it may come back, and is lost without the key
    assert (await keys.retire("b@ibs", OLD_NAME, house.datastores, force=True)).state == "retired"
    assert await keys.find("s1", "", OLD_NAME) is None


async def test_a_key_is_not_retired_while_a_datastore_cannot_be_asked(house: House) -> None:
    keys = register_of(house)
    await keys.register("a@ibs", request())
    await house.make_store()
    await house.datastores.close()
    (house.catalog.state.parent / "s1").rename(house.catalog.state.parent / "elsewhere")
    with pytest.raises(ConflictError, match="datastore s1 cannot be asked"):
        await keys.retire("b@ibs", OLD_NAME, house.datastores)
    assert (await keys.retire("b@ibs", OLD_NAME, house.datastores, force=True)).state == "retired"


async def test_a_beginning_names_one_key(house: House) -> None:
    keys = register_of(house)
    await keys.register("a@ibs", request())
    assert (await keys.show(OLD_NAME[:5].upper(), house.datastores)).fingerprint == OLD_NAME
    for given in ("", "zz", "%"):
        with pytest.raises(NotFoundError):
            await keys.show(given, house.datastores)
    assert publickey.encode(await keys.export(OLD_NAME)) == publickey.encode(publickey.describe(OLD, "web01"))
    await keys.remove(OLD_NAME, house.datastores)
    assert await keys.list() == []


async def test_the_closest_policy_decides(house: House) -> None:
    keys = register_of(house)
    assert not await keys.encryption_required("main", "")
    await keys.set_policy("a@ibs", KeyPolicy(datastore="main"))
    await keys.set_policy("a@ibs", KeyPolicy(datastore="main", namespace="lab", required=False))
    assert await keys.encryption_required("main", "")
    assert await keys.encryption_required("main", "web/shop")
    assert not await keys.encryption_required("main", "lab/x")
    assert not await keys.encryption_required("other", "")
    await keys.unset_policy("main", "lab")
    assert await keys.encryption_required("main", "lab/x")
    assert [(row.datastore, row.required, row.set_by) for row in await keys.policies()] == [("main", True, "a@ibs")]
    with pytest.raises(NotFoundError, match="no policy"):
        await keys.unset_policy("main", "lab")
    with pytest.raises(UsageError, match="one datastore"):
        await keys.set_policy("a@ibs", KeyPolicy(datastore=""))
