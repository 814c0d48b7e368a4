"""Why somebody is allowed something or not: every rule that could have a say, and what became of it.

Pure; used by `security`. Says nothing that `core.access` does not decide: the same functions answer here and there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ibs.core.access import (
    NO_ACCESS,
    ROLES,
    ROOT,
    AclRule,
    AuthId,
    Decision,
    Privilege,
    allowed,
    as_auth_id,
    check_acl_path,
    deciding_rules,
    held,
    upwards,
)


class Fate(StrEnum):
    """What a rule does for the path asked about."""

    DECIDES = "decides"
    TAKES_ALL = "decides: NoAccess takes everything"
    HIDDEN_BY_PATH = "hidden by a rule nearer to the path"
    HIDDEN_BY_USER = "hidden by the user's own rule on the same path"
    NOT_BELOW = "holds on its own path only"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule, whether it was inherited from a path above, and its fate."""

    rule: AclRule
    inherited: bool
    fate: Fate


@dataclass(frozen=True, slots=True)
class Explanation:
    """`of_user` are the rules of the user and its groups, `of_token` those of the token itself; nearest path first."""

    who: AuthId
    path: str
    of_user: Sequence[Step]
    of_token: Sequence[Step]
    decisions: Sequence[Decision]
    """One for each privilege, in their order."""
    lacking: Sequence[Sequence[AuthId]]
    """For each privilege who must be given it still: user, token, or both."""


def explain(
    rules: Sequence[AclRule],
    auth_id: AuthId | str,
    path: str,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
    groups: Collection[str] = (),
) -> Explanation:
    """Everything that matters for `auth_id` on `path`. Raises UsageError for a malformed identity or path."""
    who, place = as_auth_id(auth_id), check_acl_path(path)
    user = [] if who.of_user == ROOT else _steps(rules, who.of_user, place, groups)
    token = _steps(rules, who, place, ()) if who.is_token else []
    decisions = [allowed(rules, who, place, privilege, roles, groups) for privilege in Privilege]
    halves = {who.of_user: held(rules, who.of_user, place, roles, groups), who: held(rules, who, place, roles, groups)}
    lacking = [[one for one in halves if privilege not in halves[one]] for privilege in Privilege]
    return Explanation(who, place, user, token, decisions, lacking)


_AREAS = {"system": ("System", "Task"), "access": ("Access",)}


def matters(path: str, privilege: Privilege) -> bool:
    """Whether anything ever asks for that privilege on that path."""
    area = path.strip("/").partition("/")[0]
    return not area or privilege.partition(".")[0] in _AREAS.get(area, (area.capitalize(),))


def _steps(rules: Sequence[AclRule], who: AuthId, path: str, groups: Collection[str]) -> list[Step]:
    name = str(who)
    deciding = deciding_rules(rules, who, path, groups)
    order = {place: at for at, place in enumerate(upwards(path))}
    about = [rule for rule in rules if (rule.auth_id == name or rule.auth_id in groups) and rule.path in order]
    about.sort(key=lambda rule: (order[rule.path], rule.auth_id != name, rule.auth_id, rule.role))
    return [Step(rule, rule.path != path, _fate(rule, path, deciding)) for rule in about]


def _fate(rule: AclRule, path: str, deciding: Sequence[AclRule]) -> Fate:
    if rule in deciding:
        return Fate.TAKES_ALL if rule.role == NO_ACCESS else Fate.DECIDES
    if not rule.propagate and rule.path != path:
        return Fate.NOT_BELOW
    return Fate.HIDDEN_BY_USER if deciding and deciding[0].path == rule.path else Fate.HIDDEN_BY_PATH
