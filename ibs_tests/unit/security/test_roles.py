"""Roles of one's own and groups of users take effect at once, wherever they are given."""

from __future__ import annotations

import pytest

from ibs.core.access import Privilege
from ibs.errors import ConflictError, NotFoundError, UsageError
from ibs.security.access import Principal
from ibs.security.roles import Roles
from ibs.wire.access import RoleSet, UserGroupSet
from ibs_tests.support.identities import ADMIN, World

STORE = "/datastore/main"


@pytest.fixture
def roles(world: World) -> Roles:
    return Roles(world.catalog.access, world.checker, world.identities)


def may(world: World, auth_id: str, privilege: Privilege) -> bool:
    return world.checker.allows(Principal(auth_id), privilege, STORE)


async def test_a_role_of_ones_own_follows_its_changes(world: World, roles: Roles) -> None:
    await world.token("anna@ibs!t")
    made = await roles.create(ADMIN, RoleSet(name="Checker", privileges=["Datastore.Verify", "Datastore.Verify"]))
    assert made.privileges == ["Datastore.Verify"]
    for holder in ("anna@ibs", "anna@ibs!t"):
        await world.grant(STORE, "Checker", holder)
    assert may(world, "anna@ibs!t", Privilege.DATASTORE_VERIFY)
    await roles.update(ADMIN, RoleSet(name="Checker", privileges=["Datastore.Audit"]))
    assert not may(world, "anna@ibs!t", Privilege.DATASTORE_VERIFY)
    assert may(world, "anna@ibs!t", Privilege.DATASTORE_AUDIT)
    with pytest.raises(ConflictError, match="given by 2 rules, such as /datastore/main for anna@ibs"):
        await roles.remove(ADMIN, "Checker")
    for holder in ("anna@ibs", "anna@ibs!t"):
        await world.identities.revoke(ADMIN, STORE, "Checker", holder)
    await roles.remove(ADMIN, "Checker")
    assert not [role for role in await roles.all() if not role.built_in]
    kinds = [event.kind for event in world.events if event.kind.startswith("access.role")]
    assert kinds == ["access.role-created", "access.role-changed", "access.role-removed"]


async def test_built_in_roles_stay_and_nonsense_is_refused(roles: Roles) -> None:
    for change in (roles.create, roles.update):
        with pytest.raises(ConflictError, match="built in"):
            await change(ADMIN, RoleSet(name="Datastore.Backup", privileges=["System.Modify"]))
    with pytest.raises(ConflictError, match="built in"):
        await roles.remove(ADMIN, "Admin")
    with pytest.raises(UsageError, match="privilege 'Everything' does not exist"):
        await roles.create(ADMIN, RoleSet(name="X", privileges=["Everything"]))
    with pytest.raises(UsageError, match="would give nothing"):
        await roles.create(ADMIN, RoleSet(name="X", privileges=[]))
    with pytest.raises(NotFoundError):
        await roles.remove(ADMIN, "Nobody")
    with pytest.raises(NotFoundError):
        await roles.update(ADMIN, RoleSet(name="Nobody", privileges=["Datastore.Read"]))
    await roles.create(ADMIN, RoleSet(name="X", privileges=["Datastore.Read"]))
    with pytest.raises(ConflictError, match="exists already"):
        await roles.create(ADMIN, RoleSet(name="X", privileges=["Datastore.Read"]))


async def test_a_group_gives_and_takes_with_membership(world: World, roles: Roles) -> None:
    await world.token("anna@ibs!t")
    await world.grant("/", "Admin", "anna@ibs!t")
    with pytest.raises(NotFoundError, match="@ops does not exist"):
        await world.grant(STORE, "Datastore.Reader", "@ops")
    await roles.create_group(ADMIN, UserGroupSet(name="ops"))
    await world.grant(STORE, "Datastore.Reader", "@ops")
    assert not may(world, "anna@ibs!t", Privilege.DATASTORE_READ)
    await roles.update_group(ADMIN, UserGroupSet(name="@ops", members=["anna@ibs"]))
    assert may(world, "anna@ibs!t", Privilege.DATASTORE_READ)
    assert not may(world, "anna@ibs!t", Privilege.DATASTORE_MODIFY), "a token has no more than its user"
    found = roles.explain("anna@ibs!t", STORE, "Datastore.Read")
    assert (found.groups, [right.allowed for right in found.rights], found.kept_out) == (["@ops"], [True], "")
    assert {(rule.of, rule.auth_id) for rule in found.rules} == {("user", "@ops"), ("token", "anna@ibs!t")}
    await roles.update_group(ADMIN, UserGroupSet(name="ops"))
    assert not may(world, "anna@ibs!t", Privilege.DATASTORE_READ)
    await roles.update_group(ADMIN, UserGroupSet(name="ops", members=["anna@ibs"]))
    await roles.remove_group(ADMIN, "ops")
    assert not may(world, "anna@ibs!t", Privilege.DATASTORE_READ)
    assert [rule.auth_id for rule in await world.identities.acl()] == ["anna@ibs!t"]


async def test_members_are_users_that_exist(world: World, roles: Roles) -> None:
    await world.token("anna@ibs!t")
    with pytest.raises(UsageError, match="anna@ibs!t is a token"):
        await roles.create_group(ADMIN, UserGroupSet(name="ops", members=["anna@ibs!t"]))
    with pytest.raises(NotFoundError, match="user otto@ibs does not exist"):
        await roles.create_group(ADMIN, UserGroupSet(name="ops", members=["otto@ibs"]))
    assert await roles.groups() == []
    await roles.create_group(ADMIN, UserGroupSet(name="ops", members=["anna@ibs", "anna@ibs"]))
    assert [group.members for group in await roles.groups()] == [["anna@ibs"]]
    await world.identities.remove_user(ADMIN, "anna@ibs")
    assert [group.members for group in await roles.groups()] == [[]]


async def test_who_is_kept_out_is_told_why(world: World, roles: Roles) -> None:
    await world.token("anna@ibs!t")
    await world.identities.set_user(ADMIN, "anna@ibs", enabled=False)
    assert roles.explain("anna@ibs", "/").kept_out == "user anna@ibs is disabled"
    assert roles.explain("anna@ibs!t", "/").kept_out == "user anna@ibs is disabled"
    with pytest.raises(NotFoundError):
        roles.explain("nobody@ibs", "/")
    with pytest.raises(UsageError):
        roles.explain("anna@ibs", "/", "Datastore.Everything")
