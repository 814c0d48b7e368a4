"""What is said about a decision is what decided it."""

from __future__ import annotations

import pytest

from ibs.core.access import AclRule, Privilege
from ibs.core.access_explain import Fate, explain, matters
from ibs.errors import UsageError

STORE, SPACE = "/datastore/main", "/datastore/main/office"


def test_every_rule_is_named_with_its_fate() -> None:
    rules = [
        AclRule("/", "Admin", "u@ibs"),
        AclRule("/datastore", "Datastore.Admin", "u@ibs", propagate=False),
        AclRule(STORE, "Datastore.Audit", "@ops"),
        AclRule(STORE, "Datastore.Backup", "u@ibs"),
        AclRule(SPACE, "NoAccess", "somebody@ibs"),
        AclRule("/datastore/other", "Admin", "u@ibs"),
    ]
    found = explain(rules, "u@ibs", SPACE, groups=["@ops"])
    assert [(step.rule.path, step.rule.auth_id, step.inherited, step.fate) for step in found.of_user] == [
        (STORE, "u@ibs", True, Fate.DECIDES),
        (STORE, "@ops", True, Fate.HIDDEN_BY_USER),
        ("/datastore", "u@ibs", True, Fate.NOT_BELOW),
        ("/", "u@ibs", True, Fate.HIDDEN_BY_PATH),
    ]
    assert found.of_token == []
    rights = dict(zip(Privilege, found.decisions, strict=True))
    assert [privilege for privilege in Privilege if rights[privilege].ok] == [Privilege.DATASTORE_BACKUP]


def test_a_token_shows_both_halves_and_no_access_is_named() -> None:
    rules = [AclRule("/", "NoAccess", "u@ibs"), AclRule(STORE, "Datastore.Reader", "u@ibs!t")]
    found = explain(rules, "u@ibs!t", STORE)
    assert [step.fate for step in found.of_user] == [Fate.TAKES_ALL]
    assert [(step.inherited, step.fate) for step in found.of_token] == [(False, Fate.DECIDES)]
    assert not any(decision.ok for decision in found.decisions)


def test_root_needs_no_rule() -> None:
    found = explain([AclRule("/", "NoAccess", "root@ibs")], "root@ibs", "/system")
    assert found.of_user == []
    assert all(decision.ok for decision in found.decisions)
    assert "built-in administrator" in found.decisions[0].reason
    with pytest.raises(UsageError):
        explain([], "root@ibs", "/nowhere")


def test_who_must_be_given_what_is_missing() -> None:
    rules = [AclRule(STORE, "Datastore.Reader", "@ops"), AclRule(STORE, "Datastore.Backup", "u@ibs!t")]
    found = explain(rules, "u@ibs!t", STORE, groups=["@ops"])
    lacking = dict(zip(Privilege, ([str(one) for one in who] for who in found.lacking), strict=True))
    assert lacking[Privilege.DATASTORE_READ] == ["u@ibs!t"]
    assert lacking[Privilege.DATASTORE_BACKUP] == ["u@ibs"]
    assert lacking[Privilege.DATASTORE_PRUNE] == ["u@ibs", "u@ibs!t"]
    assert explain(rules, "u@ibs", STORE, groups=["@ops"]).lacking[0] == [found.who.of_user]


def test_privileges_that_matter_on_a_path() -> None:
    assert [one for one in Privilege if matters("/remote/x", one)] == [
        Privilege.REMOTE_AUDIT,
        Privilege.REMOTE_READ,
        Privilege.REMOTE_MODIFY,
    ]
    assert matters("/system", Privilege.TASK_STOP)
    assert not matters(SPACE, Privilege.SYSTEM_AUDIT)
    assert all(matters("/", one) for one in Privilege)
