"""Access decisions: against a second, slow reading of the four rules, and the laws that follow from them."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

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
    privileges_on,
    role_for,
)
from ibs.errors import UsageError

PATHS = ["/", "/system", "/access", "/datastore", "/datastore/a", "/datastore/a/n", "/datastore/a/n/m", "/datastore/ab"]
WHO = ["u@ibs", "u@ibs!t", "v@ibs", "v@ibs!t", "u@pam"]
RULES = st.lists(
    st.builds(AclRule, st.sampled_from(PATHS), st.sampled_from(sorted(ROLES)), st.sampled_from(WHO), st.booleans()),
    max_size=8,
)


def own(rules: list[AclRule], who: str, path: str) -> frozenset[Privilege]:
    """Rules 1 and 2, read slowly."""
    best = -1
    roles: list[str] = []
    for rule in rules:
        above = rule.path == "/" or path.startswith(rule.path + "/")
        if rule.auth_id != who or not (rule.path == path or (above and rule.propagate)):
            continue
        depth = 0 if rule.path == "/" else rule.path.count("/")
        if depth > best:
            best, roles = depth, []
        if depth == best:
            roles.append(rule.role)
    if "NoAccess" in roles:
        return frozenset()
    return frozenset(privilege for role in roles for privilege in ROLES[role])


@given(RULES, st.sampled_from(WHO), st.sampled_from(PATHS), st.sampled_from(Privilege))
def test_decisions_follow_the_rules(rules: list[AclRule], who: str, path: str, privilege: Privilege) -> None:
    expected = own(rules, who, path)
    if "!" in who:
        expected &= own(rules, who.partition("!")[0], path)
    decision = allowed(rules, who, path, privilege)
    assert decision.ok == (privilege in expected)
    assert privileges_on(rules, who, path) == expected
    assert decision.role_wanted == role_for(privilege)
    assert path in decision.reason


@given(RULES, st.sampled_from(PATHS), st.sampled_from(Privilege))
def test_a_token_never_has_more_than_its_user(rules: list[AclRule], path: str, privilege: Privilege) -> None:
    if allowed(rules, "u@ibs!t", path, privilege).ok:
        assert allowed(rules, "u@ibs", path, privilege).ok
    assert not allowed([], "u@ibs!t", path, privilege).ok


@given(RULES, st.sampled_from(PATHS), st.sampled_from(Privilege))
def test_rules_for_others_change_nothing(rules: list[AclRule], path: str, privilege: Privilege) -> None:
    mine = [rule for rule in rules if rule.auth_id == "u@ibs"]
    assert allowed(rules, "u@ibs", path, privilege) == allowed(mine, "u@ibs", path, privilege)
    reversed_rules = list(reversed(rules))
    assert allowed(rules, "u@ibs", path, privilege) == allowed(reversed_rules, "u@ibs", path, privilege)


@given(RULES, st.sampled_from(PATHS), st.sampled_from(Privilege))
def test_root_cannot_be_locked_out(rules: list[AclRule], path: str, privilege: Privilege) -> None:
    against = [*rules, AclRule("/", "NoAccess", str(ROOT)), AclRule(path, "NoAccess", str(ROOT))]
    assert allowed(against, ROOT, path, privilege).ok


@given(RULES, st.sampled_from(WHO), st.sampled_from(WHO), st.sampled_from(GroupAction))
def test_owning_a_group_only_adds(rules: list[AclRule], who: str, owner: str, action: GroupAction) -> None:
    path = "/datastore/a/n"
    others = allowed_on_group(rules, who, path, "nobody@ibs", action)
    assert allowed_on_group(rules, who, path, owner, action).ok >= others.ok
    if action is GroupAction.BACKUP:
        assert not others.ok


@given(st.text(max_size=30))
def test_identities_and_paths_parse_or_are_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert str(check_auth_id(text)) == text
    with contextlib.suppress(UsageError):
        assert check_acl_path(text) == text


@given(st.from_regex(r"\A[a-z0-9_]{1,5}@[a-z]{1,5}(![a-z]{1,5})?\Z"))
def test_identities_are_written_as_they_are_read(text: str) -> None:
    auth_id = check_auth_id(text)
    assert str(auth_id) == text
    assert auth_id.is_token == ("!" in text)
    assert auth_id.of_user == AuthId(auth_id.user, auth_id.realm)
