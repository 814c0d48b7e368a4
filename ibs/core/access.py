"""Who may do what where: identities, privileges, roles, rules, and the decision with its reason.

Pure; imported by `security`, `engine`, `control` and the CLI. Nothing is looked up here: the caller brings the rules.

    identity   `user@realm`, or `user@realm!token` for an API token of that user
    path       /  /system  /access  /remote[/NAME]  /tape[/NAME]  /datastore[/STORE[/NAMESPACE…]]
    group      `@name`, a group of users; tokens are in no group
    rule       (path, role, identity or group, propagate)

How a decision is made, and what must stay so:
1. Denied unless a rule allows it.
2. Walking from the path to the root, the first path with a rule for the identity decides alone; a rule above the path
   asked for counts only if it propagates. Several rules on that path add up, but NoAccess among them leaves nothing.
   On one path the user's own rules decide alone; without any, those of its groups do, together.
3. A token has what its own rules give and its user has as well: never more than the user.
4. `root@ibs` has everything and no rule takes it away, so that nobody can be locked out; its tokens follow rule 3.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from ibs.core.names import Namespace, check_name
from ibs.errors import NotAuthorised, RefusedError, UsageError

_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}", re.ASCII)
_AREAS: Final = ("system", "access", "remote", "tape", "datastore")
_FLAT_AREAS: Final = ("system", "access")


@dataclass(frozen=True, slots=True, order=True)
class AuthId:
    """An identity; with `token`, an API token of the user. Written `user@realm` or `user@realm!token`."""

    user: str
    realm: str
    token: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.realm}" if self.token is None else f"{self.user}@{self.realm}!{self.token}"

    @property
    def is_token(self) -> bool:
        """Whether this names a token rather than its user."""
        return self.token is not None

    @property
    def of_user(self) -> AuthId:
        """The user, for a token; itself, for a user."""
        return AuthId(self.user, self.realm)


ROOT: Final = AuthId("root", "ibs")


def check_auth_id(text: str) -> AuthId:
    """Parse `user@realm` or `user@realm!token`. Raises UsageError."""
    user, at, rest = text.partition("@")
    realm, mark, token = rest.partition("!")
    if not at or not _USER.fullmatch(user) or (mark and not token):
        raise UsageError(f"auth-id {text[:200]!r} is not valid", hint="write it like user@realm or user@realm!token")
    try:
        return AuthId(user, check_name(realm, "realm"), check_name(token, "token name") if mark else None)
    except UsageError as error:
        raise UsageError(f"auth-id {text[:200]!r} is not valid: {error}", hint=error.hint) from error


GROUP_MARK: Final = "@"
"""What the name of a group of users begins with wherever a rule names it."""


def check_holder(text: str) -> str:
    """Whom a rule may be for: `user@realm`, `user@realm!token`, or `@group`; as given. Raises UsageError."""
    if text.startswith(GROUP_MARK):
        check_name(text[len(GROUP_MARK) :], "group name")
        return text
    return str(check_auth_id(text))


def as_auth_id(auth_id: AuthId | str) -> AuthId:
    """The value for either form. Raises UsageError."""
    return check_auth_id(auth_id) if isinstance(auth_id, str) else auth_id


class Privilege(StrEnum):
    """One right. Rights are granted as roles only."""

    SYSTEM_AUDIT = "System.Audit"  # see services, settings, logs, notifications
    SYSTEM_MODIFY = "System.Modify"  # change them
    ACCESS_AUDIT = "Access.Audit"  # see identities, roles and rules
    ACCESS_MODIFY = "Access.Modify"  # change them
    TASK_AUDIT = "Task.Audit"  # see other people's tasks (one's own are always visible)
    TASK_STOP = "Task.Stop"  # stop them
    REMOTE_AUDIT = "Remote.Audit"  # see remotes
    REMOTE_READ = "Remote.Read"  # copy from and to them with their stored login
    REMOTE_MODIFY = "Remote.Modify"  # change them
    TAPE_AUDIT = "Tape.Audit"  # see drives, media and jobs
    TAPE_READ = "Tape.Read"  # load media and restore from them
    TAPE_WRITE = "Tape.Write"  # write media; label and erase those that are free
    TAPE_MODIFY = "Tape.Modify"  # change drives, pools and jobs; erase any medium
    DATASTORE_AUDIT = "Datastore.Audit"  # see stores, groups, snapshots and figures
    DATASTORE_READ = "Datastore.Read"  # read every group's data
    DATASTORE_BACKUP = "Datastore.Backup"  # create groups, add to and read one's own
    DATASTORE_VERIFY = "Datastore.Verify"  # verify every group
    DATASTORE_PRUNE = "Datastore.Prune"  # remove snapshots of one's own groups
    DATASTORE_MODIFY = "Datastore.Modify"  # change and remove every group; run GC; settings of the store
    DATASTORE_ALLOCATE = "Datastore.Allocate"  # create, detach and take over stores


_P = Privilege
ROLES: Final[Mapping[str, frozenset[Privilege]]] = {
    "Admin": frozenset(Privilege),
    "Audit": frozenset(privilege for privilege in Privilege if privilege.endswith(".Audit")),
    "NoAccess": frozenset(),
    # All but Allocate, which reaches outside the store: it chooses folders of the server.
    "Datastore.Admin": frozenset(p for p in Privilege if p.startswith("Datastore.")) - {_P.DATASTORE_ALLOCATE},
    "Datastore.PowerUser": frozenset({_P.DATASTORE_BACKUP, _P.DATASTORE_PRUNE}),
    "Datastore.Backup": frozenset({_P.DATASTORE_BACKUP}),
    "Datastore.Reader": frozenset({_P.DATASTORE_AUDIT, _P.DATASTORE_READ}),
    "Datastore.Audit": frozenset({_P.DATASTORE_AUDIT}),
    "Remote.Admin": frozenset(p for p in Privilege if p.startswith("Remote.")),
    "Remote.SyncOperator": frozenset({_P.REMOTE_AUDIT, _P.REMOTE_READ}),
    "Remote.Audit": frozenset({_P.REMOTE_AUDIT}),
    "Tape.Admin": frozenset(p for p in Privilege if p.startswith("Tape.")),
    "Tape.Operator": frozenset({_P.TAPE_AUDIT, _P.TAPE_READ, _P.TAPE_WRITE}),
    "Tape.Reader": frozenset({_P.TAPE_AUDIT, _P.TAPE_READ}),
    "Tape.Audit": frozenset({_P.TAPE_AUDIT}),
}
"""The built-in roles; custom ones are added by the caller in a mapping of the same shape."""

NO_ACCESS: Final = "NoAccess"


def role_for(privilege: Privilege) -> str:
    """The built-in role with the fewest rights that has this one: what to ask an administrator for."""
    return min((name for name in ROLES if privilege in ROLES[name]), key=lambda name: len(ROLES[name]))


def check_acl_path(path: str) -> str:
    """Return `path` if rules may be written for it. Raises UsageError."""
    parts = path.split("/")
    if path == "/":
        return path
    if parts[0] or len(parts) < 2 or parts[1] not in _AREAS:
        raise UsageError(
            f"path {path[:200]!r} is not valid", hint=f"start it with one of /{', /'.join(_AREAS)}, or use / for all"
        )
    names = parts[2:]
    if names and parts[1] in _FLAT_AREAS:
        raise UsageError(f"path {path[:200]!r} is not valid: nothing lies below /{parts[1]}")
    if len(names) > 1 and parts[1] != "datastore":
        raise UsageError(f"path {path[:200]!r} is not valid: nothing lies below /{parts[1]}/NAME")
    for name in names[:1]:
        check_name(name, f"{parts[1]} name")
    Namespace(tuple(names[1:]))
    return path


def datastore_path(store: str, namespace: Namespace | None = None) -> str:
    """Where rules for a datastore, or a namespace in it, are looked up."""
    return "/".join(["/datastore", store, *(namespace.parts if namespace is not None else ())])


@dataclass(frozen=True, slots=True)
class AclRule:
    """`role` for `auth_id` on `path`; with `propagate`, also below it."""

    path: str
    role: str
    auth_id: str
    propagate: bool = True

    def checked(self, roles: Mapping[str, frozenset[Privilege]] = ROLES) -> Self:
        """This rule if path, identity and role exist. Raises UsageError."""
        check_acl_path(self.path)
        check_holder(self.auth_id)
        if self.role not in roles:
            raise UsageError(f"role {self.role!r} does not exist", hint=f"use one of {', '.join(sorted(roles))}")
        return self


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer and its reason. `role_wanted` is the least role that would allow it; "" when no role would."""

    ok: bool
    auth_id: AuthId
    path: str
    role_wanted: str
    reason: str

    def require(self) -> None:
        """Return if allowed. Raises NotAuthorised (identity, missing role, path), or RefusedError if no role helps."""
        if self.ok:
            return
        if self.role_wanted:
            raise NotAuthorised(str(self.auth_id), self.role_wanted, self.path)
        raise RefusedError(f"refused: {self.reason}", hint="use another backup id or namespace, or change the owner")


@dataclass(frozen=True, slots=True)
class _Held:
    """What one identity's own rules give on a path, and which of them decided."""

    privileges: frozenset[Privilege]
    reason: str


def allowed(  # noqa: PLR0917 - the question, then what is known
    rules: Sequence[AclRule],
    auth_id: AuthId | str,
    path: str,
    privilege: Privilege,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
    groups: Collection[str] = (),
) -> Decision:
    """Decide one question by the four rules at the top of this module. `groups`: `@name` of those the user is in.

    Raises UsageError for a malformed identity.
    """
    who = as_auth_id(auth_id)
    wanted = role_for(privilege)
    user = _held(rules, who.of_user, path, roles, groups)
    decisive = user
    if who.is_token:
        own = _held(rules, who, path, roles)
        decisive = own if privilege not in own.privileges else user
    if privilege in decisive.privileges:
        return Decision(True, who, path, wanted, f"{privilege} on {path}: {decisive.reason}")
    whose = "its user has" if who.is_token and decisive is user else "it has"
    return Decision(False, who, path, wanted, f"{who} lacks {privilege} on {path}: {whose} {decisive.reason}")


def allowed_within(  # noqa: PLR0917 - as `allowed`
    rules: Sequence[AclRule],
    auth_id: AuthId | str,
    path: str,
    privilege: Privilege,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
    groups: Collection[str] = (),
) -> bool:
    """Whether the identity holds it on `path`, or on something below. Raises UsageError for a malformed identity."""
    who, below = as_auth_id(auth_id), path.rstrip("/") + "/"
    names = {str(who), str(who.of_user), *groups}
    places = {rule.path for rule in rules if rule.auth_id in names and rule.path.startswith(below)}
    return any(allowed(rules, who, place, privilege, roles, groups).ok for place in (path, *sorted(places)))


def privileges_on(
    rules: Sequence[AclRule],
    auth_id: AuthId | str,
    path: str,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
    groups: Collection[str] = (),
) -> frozenset[Privilege]:
    """Everything the identity may do on `path`. Raises UsageError for a malformed identity."""
    who = as_auth_id(auth_id)
    held = _held(rules, who.of_user, path, roles, groups).privileges
    return held & _held(rules, who, path, roles).privileges if who.is_token else held


def held(
    rules: Sequence[AclRule],
    who: AuthId,
    path: str,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
    groups: Collection[str] = (),
) -> frozenset[Privilege]:
    """What the rules give this identity itself: of a token its own half, of a user with that of its groups."""
    return _held(rules, who, path, roles, () if who.is_token else groups).privileges


def _held(
    rules: Iterable[AclRule],
    who: AuthId,
    path: str,
    roles: Mapping[str, frozenset[Privilege]],
    groups: Collection[str] = (),
) -> _Held:
    if who == ROOT:
        return _Held(ROLES["Admin"], "the built-in administrator's rights")
    deciding = deciding_rules(rules, who, path, groups)
    if not deciding:
        return _Held(frozenset(), "no role there")
    roles_given = sorted({rule.role for rule in deciding})
    shown = f"{', '.join(roles_given)} on {deciding[0].path}"
    if deciding[0].auth_id != str(who):
        shown += f" by {', '.join(sorted({rule.auth_id for rule in deciding}))}"
    if NO_ACCESS in roles_given:
        return _Held(frozenset(), shown)
    # A role that no longer exists gives nothing, but its rule still hides those above it: fail closed.
    return _Held(frozenset().union(*(roles.get(role, frozenset()) for role in roles_given)), shown)


def deciding_rules(rules: Iterable[AclRule], who: AuthId, path: str, groups: Collection[str] = ()) -> Sequence[AclRule]:
    """Those rules that decide for `who` on `path`, by rule 2; they lie on one path. Empty: there are none."""
    name = str(who)
    by_path: dict[str, list[AclRule]] = {}
    for rule in rules:
        if (rule.auth_id == name or rule.auth_id in groups) and (rule.propagate or rule.path == path):
            by_path.setdefault(rule.path, []).append(rule)
    for place in upwards(path):
        given = by_path.get(place)
        if given is not None:
            return [rule for rule in given if rule.auth_id == name] or given
    return []


def upwards(path: str) -> Iterable[str]:
    """The path itself, then each path above it, the root last."""
    while path not in ("", "/"):
        yield path
        path = path.rpartition("/")[0]
    yield "/"


class GroupAction(StrEnum):
    """What can be done with a backup group."""

    LIST = "list"
    READ = "read"
    BACKUP = "backup"
    VERIFY = "verify"
    ANNOTATE = "annotate"  # notes and protection
    PRUNE = "prune"
    CHANGE_OWNER = "change-owner"


_ON_ANY: Final[Mapping[GroupAction, Privilege | None]] = {
    GroupAction.LIST: Privilege.DATASTORE_AUDIT,
    GroupAction.READ: Privilege.DATASTORE_READ,
    GroupAction.BACKUP: None,  # a chain of backups has one writer, whatever rights others have
    GroupAction.VERIFY: Privilege.DATASTORE_VERIFY,
    GroupAction.ANNOTATE: Privilege.DATASTORE_MODIFY,
    GroupAction.PRUNE: Privilege.DATASTORE_MODIFY,
    GroupAction.CHANGE_OWNER: Privilege.DATASTORE_MODIFY,
}
_ON_OWN: Final[Mapping[GroupAction, Privilege | None]] = {
    GroupAction.LIST: Privilege.DATASTORE_BACKUP,
    GroupAction.READ: Privilege.DATASTORE_BACKUP,
    GroupAction.BACKUP: Privilege.DATASTORE_BACKUP,
    GroupAction.VERIFY: Privilege.DATASTORE_BACKUP,
    GroupAction.ANNOTATE: Privilege.DATASTORE_BACKUP,
    GroupAction.PRUNE: Privilege.DATASTORE_PRUNE,
    GroupAction.CHANGE_OWNER: None,
}


def owns(auth_id: AuthId | str, owner: AuthId | str) -> bool:
    """Whether a group of `owner` is one's own: the same identity, or the user of the token that owns it.

    Not the other way round: a token never reaches what its user backed up.
    """
    who, whose = as_auth_id(auth_id), as_auth_id(owner)
    return who in (whose, whose.of_user)


def allowed_on_group(  # noqa: PLR0917 - the group's facts after the same four as `allowed`
    rules: Sequence[AclRule],
    auth_id: AuthId | str,
    path: str,
    owner: AuthId | str | None,
    action: GroupAction,
    roles: Mapping[str, frozenset[Privilege]] = ROLES,
) -> Decision:
    """Decide about one group in the datastore or namespace at `path`. `owner` None: the group does not exist yet.

    `Datastore.Backup` lets an identity create groups and work with its own; `Datastore.Reader` reads all of them.
    Raises UsageError for a malformed identity.
    """
    who = as_auth_id(auth_id)
    on_any, on_own = _ON_ANY[action], _ON_OWN[action]
    denied: Decision | None = None
    if on_any is not None:
        denied = allowed(rules, who, path, on_any, roles)
        if denied.ok:
            return denied
    if on_own is not None and (owner is None or owns(who, owner)):
        # Asked for like this, the role to be granted is the lesser one: it is the identity's own group.
        return allowed(rules, who, path, on_own, roles)
    if denied is not None:
        return denied
    return Decision(False, who, path, "", f"the group belongs to {owner}; {who} may not add to it")
