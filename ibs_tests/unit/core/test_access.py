"""Identities, roles and decisions."""

from __future__ import annotations

import pytest

from ibs.core.access import (
    ROLES,
    ROOT,
    AclRule,
    AuthId,
    GroupAction,
    Privilege,
    allowed,
    allowed_on_group,
    check_acl_path,
    check_auth_id,
    datastore_path,
    owns,
    privileges_on,
    role_for,
)
from ibs.core.names import Namespace
from ibs.errors import NotAuthorised, RefusedError, UsageError

STORE = "/datastore/ibs-primary"
SPACE = "/datastore/ibs-primary/site-a"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("root@ibs", ("root", "ibs", None)),
        ("web01.backup@pam!agent-1", ("web01.backup", "pam", "agent-1")),
        ("a+b@ldap", ("a+b", "ldap", None)),
    ],
)
def test_identities(text: str, parts: tuple[str, str, str | None]) -> None:
    auth_id = check_auth_id(text)
    assert (auth_id.user, auth_id.realm, auth_id.token) == parts
    assert str(auth_id) == text
    assert auth_id.is_token == (parts[2] is not None)
    assert str(auth_id.of_user) == text.partition("!")[0]


@pytest.mark.parametrize(
    "text",
    [
        "", "root", "@ibs", "root@", "root@ibs!", "root@ibs!a!b", "root@ibs@x", "ro ot@ibs", "root:x@ibs", "-a@ibs",
        "root@.x", "a" * 65 + "@ibs", "root@ibs\n", "root@ibs!x:y", "\u0430@ibs", "root!x@ibs",
    ],
)  # fmt: skip
def test_malformed_identities_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_auth_id(text)


@pytest.mark.parametrize(
    "path",
    ["/", "/system", "/access", "/datastore", "/datastore/a", "/datastore/a/b/c", "/remote", "/remote/r", "/tape/lib"],
)
def test_paths(path: str) -> None:
    assert check_acl_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "datastore", "//", "/datastore/", "/datastore//a", "/other", "/system/x", "/remote/a/b", "/datastore/..",
        "/datastore/.ibs", "/datastore/a/" + "/".join("abcdefghi"), "/datastore/a/b ", "/Datastore",
    ],
)  # fmt: skip
def test_malformed_paths_are_refused(path: str) -> None:
    with pytest.raises(UsageError):
        check_acl_path(path)


def test_the_path_of_a_datastore() -> None:
    assert datastore_path("ibs-primary") == STORE
    assert datastore_path("ibs-primary", Namespace.parse("site-a/db")) == f"{STORE}/site-a/db"
    assert datastore_path("ibs-primary", Namespace()) == STORE


def test_built_in_roles() -> None:
    assert set(ROLES) == {
        "Admin", "Audit", "NoAccess", "Datastore.Admin", "Datastore.PowerUser", "Datastore.Backup", "Datastore.Reader",
        "Datastore.Audit", "Remote.Admin", "Remote.SyncOperator", "Remote.Audit", "Tape.Admin", "Tape.Operator",
        "Tape.Reader", "Tape.Audit",
    }  # fmt: skip
    for area in ("Datastore", "Remote", "Tape"):
        roles = {name: ROLES[name] for name in ROLES if name.startswith(f"{area}.")}
        assert all(p.startswith(f"{area}.") for held in roles.values() for p in held), "no role reaches other areas"
    assert ROLES["Admin"] == frozenset(Privilege)
    assert ROLES["NoAccess"] == frozenset()
    assert Privilege.DATASTORE_ALLOCATE not in ROLES["Datastore.Admin"]
    assert not any(".Modify" in privilege for privilege in ROLES["Audit"])
    assert all(role_for(privilege) in ROLES for privilege in Privilege)


def test_the_role_to_ask_for_is_the_least_one() -> None:
    assert role_for(Privilege.DATASTORE_READ) == "Datastore.Reader"
    assert role_for(Privilege.DATASTORE_BACKUP) == "Datastore.Backup"
    assert role_for(Privilege.DATASTORE_AUDIT) == "Datastore.Audit"
    assert role_for(Privilege.DATASTORE_PRUNE) == "Datastore.PowerUser"
    assert role_for(Privilege.DATASTORE_VERIFY) == "Datastore.Admin"
    assert role_for(Privilege.SYSTEM_AUDIT) == "Audit"
    assert role_for(Privilege.ACCESS_MODIFY) == "Admin"


def test_denied_by_default_and_the_error_names_identity_role_and_path() -> None:
    decision = allowed([], "sync@ibs", STORE, Privilege.DATASTORE_READ)
    assert not decision.ok
    with pytest.raises(NotAuthorised) as caught:
        decision.require()
    assert str(caught.value) == f"not authorised: sync@ibs lacks role Datastore.Reader on {STORE}"
    granted = allowed([AclRule(STORE, "Datastore.Reader", "sync@ibs")], "sync@ibs", STORE, Privilege.DATASTORE_READ)
    granted.require()
    assert "Datastore.Reader on /datastore/ibs-primary" in granted.reason


def test_the_most_specific_path_decides_alone() -> None:
    rules = [AclRule("/", "Admin", "u@ibs"), AclRule(STORE, "Datastore.Audit", "u@ibs")]
    assert allowed(rules, "u@ibs", "/system", Privilege.SYSTEM_MODIFY).ok
    assert allowed(rules, "u@ibs", SPACE, Privilege.DATASTORE_AUDIT).ok
    assert not allowed(rules, "u@ibs", SPACE, Privilege.DATASTORE_READ).ok
    assert allowed(rules, "u@ibs", STORE + "2", Privilege.DATASTORE_READ).ok, "no path component is cut in two"


def test_roles_on_one_path_add_up_unless_one_is_no_access() -> None:
    rules = [AclRule(STORE, "Datastore.Backup", "u@ibs"), AclRule(STORE, "Datastore.Reader", "u@ibs")]
    assert privileges_on(rules, "u@ibs", STORE) == ROLES["Datastore.Backup"] | ROLES["Datastore.Reader"]
    assert privileges_on([*rules, AclRule(STORE, "NoAccess", "u@ibs")], "u@ibs", STORE) == frozenset()


def test_rules_that_do_not_propagate_hold_on_their_path_only() -> None:
    rules = [AclRule("/datastore", "Datastore.Reader", "u@ibs"), AclRule(STORE, "NoAccess", "u@ibs", propagate=False)]
    assert not allowed(rules, "u@ibs", STORE, Privilege.DATASTORE_READ).ok
    assert allowed(rules, "u@ibs", SPACE, Privilege.DATASTORE_READ).ok


def test_tokens_need_both_their_own_rule_and_their_users() -> None:
    token = AclRule(STORE, "Datastore.Reader", "u@ibs!t")
    user = AclRule(STORE, "Datastore.Backup", "u@ibs")
    alone = allowed([token], "u@ibs!t", STORE, Privilege.DATASTORE_READ)
    assert not alone.ok
    assert "its user has no role there" in alone.reason
    assert not allowed([user], "u@ibs!t", STORE, Privilege.DATASTORE_BACKUP).ok
    assert "it has no role there" in allowed([user], "u@ibs!t", STORE, Privilege.DATASTORE_BACKUP).reason
    assert not allowed([token, user], "u@ibs!t", STORE, Privilege.DATASTORE_READ).ok
    both = [token, AclRule("/", "Admin", "u@ibs")]
    assert allowed(both, "u@ibs!t", STORE, Privilege.DATASTORE_READ).ok
    assert not allowed(both, "u@ibs!t", STORE, Privilege.DATASTORE_BACKUP).ok


def test_root_has_everything_but_its_tokens_need_rules() -> None:
    assert allowed([AclRule("/", "NoAccess", "root@ibs")], ROOT, "/access", Privilege.ACCESS_MODIFY).ok
    assert not allowed([], AuthId("root", "pam"), "/access", Privilege.ACCESS_MODIFY).ok
    assert not allowed([], "root@ibs!t", "/access", Privilege.ACCESS_MODIFY).ok
    assert allowed([AclRule("/", "Admin", "root@ibs!t")], "root@ibs!t", "/access", Privilege.ACCESS_MODIFY).ok


def test_custom_roles_and_roles_that_are_gone() -> None:
    roles = {**ROLES, "Checker": frozenset({Privilege.DATASTORE_VERIFY})}
    rules = [AclRule("/", "Admin", "u@ibs"), AclRule(STORE, "Checker", "u@ibs")]
    assert allowed(rules, "u@ibs", STORE, Privilege.DATASTORE_VERIFY, roles).ok
    assert privileges_on(rules, "u@ibs", STORE) == frozenset(), "a role that is gone still hides what is above"
    rules[1].checked(roles)
    with pytest.raises(UsageError):
        rules[1].checked()


@pytest.mark.parametrize(
    "rule", [AclRule("nowhere", "Admin", "u@ibs"), AclRule("/", "admin", "u@ibs"), AclRule("/", "Admin", "u")]
)
def test_rules_are_checked(rule: AclRule) -> None:
    with pytest.raises(UsageError):
        rule.checked()


def test_whose_a_group_is() -> None:
    assert owns("u@ibs", "u@ibs")
    assert owns("u@ibs!t", "u@ibs!t")
    assert owns("u@ibs", "u@ibs!t"), "a user owns what its tokens made"
    assert not owns("u@ibs!t", "u@ibs")
    assert not owns("u@ibs!t", "u@ibs!s")
    assert not owns("u@ibs", "u@pam")


A = GroupAction
TABLE: dict[str, tuple[set[GroupAction], set[GroupAction], set[GroupAction]]] = {
    # role: what it may do with its own group, with another's, with one that does not exist
    "Datastore.Backup": ({A.LIST, A.READ, A.BACKUP, A.VERIFY, A.ANNOTATE}, set(), {A.BACKUP}),
    "Datastore.PowerUser": ({A.LIST, A.READ, A.BACKUP, A.VERIFY, A.ANNOTATE, A.PRUNE}, set(), {A.BACKUP}),
    "Datastore.Reader": ({A.LIST, A.READ}, {A.LIST, A.READ}, set()),
    "Datastore.Audit": ({A.LIST}, {A.LIST}, set()),
    "Datastore.Admin": (set(A), set(A) - {A.BACKUP}, {A.BACKUP}),
    "NoAccess": (set(), set(), set()),
    "Audit": ({A.LIST}, {A.LIST}, set()),
}


@pytest.mark.parametrize("role", TABLE)
def test_what_roles_may_do_with_groups(role: str) -> None:
    rules = [AclRule(STORE, role, "u@ibs")]
    own, others, new = TABLE[role]
    for action in GroupAction:
        assert allowed_on_group(rules, "u@ibs", SPACE, "u@ibs", action).ok == (action in own), action
        assert allowed_on_group(rules, "u@ibs", SPACE, "v@ibs", action).ok == (action in others), action
    assert allowed_on_group(rules, "u@ibs", SPACE, None, A.BACKUP).ok == (A.BACKUP in new)


def test_refusals_about_groups_say_what_would_help() -> None:
    backup = [AclRule(STORE, "Datastore.Backup", "u@ibs")]
    foreign = allowed_on_group(backup, "u@ibs", SPACE, "v@ibs", A.READ)
    assert foreign.role_wanted == "Datastore.Reader"
    none = allowed_on_group([], "u@ibs", SPACE, None, A.BACKUP)
    assert none.role_wanted == "Datastore.Backup"
    admin = [AclRule("/", "Admin", "u@ibs")]
    chain = allowed_on_group(admin, "u@ibs", SPACE, "v@ibs!t", A.BACKUP)
    with pytest.raises(RefusedError, match=r"the group belongs to v@ibs!t") as caught:
        chain.require()
    assert not isinstance(caught.value, NotAuthorised), "no role would help"


def test_a_group_gives_rights_to_its_members_and_their_own_rules_come_first() -> None:
    rules = [AclRule(STORE, "Datastore.Reader", "@ops"), AclRule(STORE, "Datastore.Backup", "@web")]
    held = privileges_on(rules, "u@ibs", STORE, groups=["@ops", "@web"])
    assert held == ROLES["Datastore.Reader"] | ROLES["Datastore.Backup"], "groups add up"
    assert privileges_on(rules, "u@ibs", STORE) == frozenset(), "only members"
    own = [*rules, AclRule(STORE, "Datastore.Audit", "u@ibs")]
    assert privileges_on(own, "u@ibs", STORE, groups=["@ops"]) == ROLES["Datastore.Audit"]
    near = [*own, AclRule(SPACE, "NoAccess", "@ops")]
    assert privileges_on(near, "u@ibs", SPACE, groups=["@ops", "@web"]) == frozenset(), "the nearer path decides"
    denied = allowed(near, "u@ibs", SPACE, Privilege.DATASTORE_READ, groups=["@ops"])
    assert "NoAccess on" in denied.reason
    assert "by @ops" in denied.reason


def test_a_token_has_no_group_but_its_user_does() -> None:
    rules = [AclRule(STORE, "Datastore.Reader", "@ops"), AclRule("/", "Admin", "u@ibs!t")]
    assert allowed(rules, "u@ibs!t", STORE, Privilege.DATASTORE_READ, groups=["@ops"]).ok
    assert not allowed(rules, "u@ibs!t", STORE, Privilege.DATASTORE_MODIFY, groups=["@ops"]).ok
    assert not allowed(rules[:1], "u@ibs!t", STORE, Privilege.DATASTORE_READ, groups=["@ops"]).ok


def test_rules_are_for_users_tokens_and_groups() -> None:
    for holder in ("u@ibs", "u@ibs!t", "@ops"):
        assert AclRule("/", "Admin", holder).checked()
    for holder in ("@", "@a b", "@-x", "ops"):
        with pytest.raises(UsageError):
            AclRule("/", "Admin", holder).checked()
