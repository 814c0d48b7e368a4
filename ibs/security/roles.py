"""Roles of one's own and groups of users: made, changed, removed; and why somebody may do something.

Made by `app`; called by `control`, which has checked the right to do so. Changes go through `Identities.change`:
durable, in force at once, told on the bus. Built-in roles stay as they are.
"""

from __future__ import annotations

from ibs.core import limits_access
from ibs.core.access import GROUP_MARK, ROLES, Privilege, check_auth_id
from ibs.core.access_explain import Step, matters
from ibs.core.names import check_name
from ibs.errors import ConflictError, UsageError
from ibs.ports.access import AccessRecords, GroupRecord, RoleRecord
from ibs.security.access import AccessChecker
from ibs.security.identities import Identities, check_comment
from ibs.wire.access import Explained, ExplainedRight, ExplainedRule, RoleSet, RoleView, UserGroupSet, UserGroupView


class Roles:
    """`by` is always the auth-id of who asked for the change."""

    def __init__(self, records: AccessRecords, checker: AccessChecker, identities: Identities) -> None:
        self._records = records
        self._checker = checker
        self._identities = identities

    async def all(self) -> list[RoleView]:
        """The built-in ones first."""
        built_in = [
            RoleView(name=name, privileges=sorted(privileges), built_in=True) for name, privileges in ROLES.items()
        ]
        return built_in + [_role_view(role) for role in await self._records.roles()]

    async def create(self, by: str, request: RoleSet) -> RoleView:
        """Raises UsageError, ConflictError."""
        record = _role(request)
        if record.name in ROLES:
            raise ConflictError(f"role {record.name} is built in", hint="choose another name")
        fields = {"role": record.name, "privileges": " ".join(record.privileges)}
        async with self._identities.change(by, "access.role-created", f"role {record.name} was made", **fields):
            await self._records.add_role(record)
        return _role_view(record)

    async def update(self, by: str, request: RoleSet) -> RoleView:
        """What the role gives from now on, wherever it is given. Raises UsageError, ConflictError, NotFoundError."""
        record = _role(request)
        _refuse_built_in(record.name)
        fields = {"role": record.name, "privileges": " ".join(record.privileges)}
        async with self._identities.change(by, "access.role-changed", f"role {record.name} was changed", **fields):
            await self._records.set_role(record)
        return _role_view(record)

    async def remove(self, by: str, name: str) -> None:
        """Raises NotFoundError; ConflictError for a built-in one, or while a rule gives it."""
        _refuse_built_in(name)
        async with self._identities.change(by, "access.role-removed", f"role {name} was removed", role=name):
            await self._records.remove_role(name)

    async def groups(self) -> list[UserGroupView]:
        """All groups of users, by name."""
        return [_group_view(group) for group in await self._records.groups()]

    async def create_group(self, by: str, request: UserGroupSet) -> UserGroupView:
        """Raises UsageError, ConflictError, NotFoundError for a member that is no user."""
        record = _group(request)
        text, fields = f"group of users {record.name} was made", {"members": " ".join(record.members)}
        async with self._identities.change(by, "access.group-created", text, group=record.name, **fields):
            await self._records.add_group(record)
        return _group_view(record)

    async def update_group(self, by: str, request: UserGroupSet) -> UserGroupView:
        """Who is in it from now on. Raises UsageError, NotFoundError."""
        record = _group(request)
        text, fields = f"group of users {record.name} was changed", {"members": " ".join(record.members)}
        async with self._identities.change(by, "access.group-changed", text, group=record.name, **fields):
            await self._records.set_group(record)
        return _group_view(record)

    async def remove_group(self, by: str, name: str) -> None:
        """With its rules; its members stay. Raises NotFoundError."""
        text = f"group of users {name} was removed"
        async with self._identities.change(by, "access.group-removed", text, group=name):
            await self._records.remove_group(name, GROUP_MARK + name)

    def explain(self, auth_id: str, path: str, privilege: str = "") -> Explained:
        """Why; for one privilege, or for all. Raises UsageError, NotFoundError."""
        wanted = check_privileges([privilege]) if privilege else [one for one in Privilege if matters(path, one)]
        found = self._checker.explain(auth_id, path)
        decided = zip(Privilege, found.decisions, found.lacking, strict=True)
        return Explained(
            auth_id=str(found.who),
            path=found.path,
            rules=[_rule(step, "user") for step in found.of_user] + [_rule(step, "token") for step in found.of_token],
            rights=[
                ExplainedRight(
                    privilege=str(right),
                    allowed=one.ok,
                    reason=one.reason,
                    role_wanted="" if one.ok else one.role_wanted,
                    grant_to=list(map(str, lacking)),
                )
                for right, one, lacking in decided
                if right in wanted
            ],
            groups=self._checker.groups_of(found.who),
            kept_out=self._checker.why_not_valid(auth_id),
        )


def check_privileges(names: list[str]) -> list[Privilege]:
    """Each once, sorted. Raises UsageError for one that does not exist."""
    known = {str(privilege): privilege for privilege in Privilege}
    for name in names:
        if name not in known:
            raise UsageError(f"privilege {name[:100]!r} does not exist", hint=f"use some of {', '.join(known)}")
    return sorted({known[name] for name in names})


def _role(request: RoleSet) -> RoleRecord:
    name = check_name(request.name, "role")
    privileges = check_privileges(request.privileges)
    if not privileges:
        raise UsageError(f"role {name} would give nothing", hint="name some privileges, or use NoAccess")
    return RoleRecord(name, tuple(map(str, privileges)), check_comment(request.comment))


def _refuse_built_in(name: str) -> None:
    if name in ROLES:
        raise ConflictError(
            f"role {name} is built in and stays as it is", hint="make one of your own: ironcore-backup role create"
        )


def _group(request: UserGroupSet) -> GroupRecord:
    name = check_name(request.name.removeprefix(GROUP_MARK), "group name")
    if len(request.members) > limits_access.GROUP_MEMBERS_MAX:
        raise UsageError(f"a group has at most {limits_access.GROUP_MEMBERS_MAX} members")
    members = {check_auth_id(member) for member in request.members}
    tokens = [str(member) for member in sorted(members, key=str) if member.is_token]
    if tokens:
        raise UsageError(f"{tokens[0]} is a token; groups are of users", hint="name its user")
    return GroupRecord(name, tuple(sorted(map(str, members))), check_comment(request.comment))


def _role_view(role: RoleRecord) -> RoleView:
    return RoleView(name=role.name, privileges=list(role.privileges), comment=role.comment)


def _group_view(group: GroupRecord) -> UserGroupView:
    return UserGroupView(name=group.name, members=list(group.members), comment=group.comment)


def _rule(step: Step, of: str) -> ExplainedRule:
    rule = step.rule
    return ExplainedRule(
        of=of,
        path=rule.path,
        role=rule.role,
        auth_id=rule.auth_id,
        propagate=rule.propagate,
        inherited=step.inherited,
        fate=str(step.fate),
    )
