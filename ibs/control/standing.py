"""How what a request is about to change stands, for the audit log: looked at before the handler, and again after it.

Used by `control.auditing`. Every changing operation is in `LOOKS` or in `NOTHING_STOOD`; a test holds the routes
against the two. Looks ask the services, not the rights: the caller never sees what they find.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from ibs.control.routing import Call
from ibs.core.names import SnapshotName
from ibs.errors import IbsError, NotFoundError
from ibs.services.lifecycle import group_of

Look = Callable[[Call], Awaitable[Any]]
"""The thing as JSON types; None when there is none. Raises errors of `ibs.errors`."""


async def standing(call: Call, operation: str) -> Any:
    """How it stands now. None for operations that change nothing that stood, and when it cannot be told."""
    look = LOOKS.get(operation)
    if look is None:
        return None
    try:
        return await look(call)
    except IbsError:  # the handler says it to the caller
        return None


def difference(before: Any, after: Any) -> tuple[Any, Any]:
    """Of two JSON objects only what differs, at every level; anything else as it is."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return before, after
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old != new:
            left[name], right[name] = difference(old, new)
    return left, right


# --- how to look ---


def _plain(body: Any, *fields: str) -> dict[str, Any]:
    """These fields of a body, all when none is named."""
    whole: dict[str, Any] = msgspec.to_builtins(body)
    return {name: whole[name] for name in fields} if fields else whole


def _row(rows: Iterable[Any], wanted: Mapping[str, str], *fields: str) -> dict[str, Any] | None:
    """The first row whose fields are the wanted ones."""
    for row in rows:
        if all(getattr(row, name) == value for name, value in wanted.items()):
            return _plain(row, *fields)
    return None


async def _user(call: Call) -> Any:
    return _row(await call.context.identities.users(), {"auth_id": call.path["auth_id"]})


async def _token(call: Call) -> Any:
    rows = await call.context.identities.tokens()
    return _row(rows, {"auth_id": call.path["auth_id"]}, "auth_id", "enabled", "comment", "expires")


async def _rules(call: Call) -> Any:
    asked: Mapping[str, str] = call.query if call.body is None else _plain(call.body)
    there = [
        rule.role
        for rule in await call.context.identities.acl()
        if (rule.path, rule.auth_id) == (asked["path"], asked["auth_id"])
    ]
    return {"path": asked["path"], "auth_id": asked["auth_id"], "roles": there}


async def _role(call: Call) -> Any:
    return _row(await call.context.roles.all(), {"name": call.path["name"]})


async def _user_group(call: Call) -> Any:
    return _row(await call.context.roles.groups(), {"name": call.path["name"]})


async def _login(call: Call) -> Any:
    return _plain(await call.context.logins.show(call.path["auth_id"]), "auth_id", "password", "totp", "sessions")


async def _certificate(call: Call) -> Any:
    return _plain(
        call.context.certificates.show(),
        "fingerprint",
        "expires",
        "self_signed",
        "names",
        "next_fingerprint",
        "next_from",
    )


async def _datastore(call: Call) -> Any:
    view = await call.context.datastores.view(call.path["store"])
    return _plain(view, "name", "path", "uuid", "comment", "mode", "status")


async def _namespace(call: Call) -> Any:
    rows = await call.context.lifecycle.namespaces(call.path["store"], lambda _namespace: True)
    return _row(rows, {"namespace": call.body.namespace})


async def _group(call: Call) -> Any:
    name = group_of(call.body.group)
    store = await call.context.datastores.get(call.path["store"])
    rows = await store.snapshots.group_views(name.namespace)
    return _row(rows, {"group": str(name.group)}, "namespace", "group", "owner", "snapshots")


async def _snapshot(call: Call) -> Any:
    store = await call.context.datastores.get(call.path["store"])
    view = await store.snapshots.snapshot_view(SnapshotName.parse(call.body.snapshot), owner=None)
    return _plain(view, "snapshot", "protected", "notes", "locked_until", "locked_by")


async def _clock(call: Call) -> Any:
    return _plain(await call.context.lifecycle.clock(call.path["store"]))


async def _compliance(call: Call) -> Any:
    rows = await call.context.lifecycle.compliance(call.path["store"])
    return _row(rows, {"namespace": call.body.namespace})


async def _retention(call: Call) -> Any:
    namespace = call.query["namespace"] if call.body is None else call.body.namespace
    rows = await call.context.pruning.retention(call.path["store"])
    return _row((row for row in rows if row.by), {"namespace": namespace}, "namespace", "text", "more_than_half")


async def _schedule(call: Call) -> Any:
    asked: Mapping[str, str] = call.query if call.body is None else _plain(call.body)
    rows = await call.context.plans.list(lambda _name: True, call.path["store"], asked["kind"])
    found = _row(rows, {"namespace": asked["namespace"]})
    return None if found is None else {name: value for name, value in found.items() if name not in ("next", "last")}


async def _gc(call: Call) -> Any:
    rows = await call.context.gc_status(call.path["store"])
    return _row(rows, {"store": call.path["store"]}, "store", "state")


async def _host(call: Call) -> Any:
    return _plain(call.context.hosts.get(call.path["name"]), "name", "tags", "project", "auth_id")


async def _sync_job(call: Call) -> Any:
    return _plain(await call.context.sync_jobs.show(call.path["name"]), "name", "enabled", "spec")


async def _job(call: Call) -> Any:
    return _plain(await call.context.jobs.show(call.path["name"]), "name", "enabled", "spec")


async def _key(call: Call) -> Any:
    view = await call.context.keys.show(call.path["fingerprint"], call.context.datastores)
    return _plain(view, "fingerprint", "comment", "state", "scopes", "replaced_by")


async def _key_policy(call: Call) -> Any:
    asked: Mapping[str, str] = call.query if call.body is None else _plain(call.body)
    wanted = {"datastore": asked["datastore"], "namespace": asked["namespace"]}
    return _row(await call.context.keys.policies(), wanted)


async def _target(call: Call) -> Any:
    view = await call.context.notifications.target(call.path["name"])
    return _plain(view, "name", "spec", "enabled", "has_secret", "headers")


def _name(call: Call) -> str:
    """Of a thing that is made and changed by the same call, and removed by its path."""
    return call.path["name"] if call.body is None else str(call.body.name)


async def _notified_group(call: Call) -> Any:
    return _row(await call.context.notifications.groups(), {"name": _name(call)})


async def _rule(call: Call) -> Any:
    return _row(await call.context.notifications.rules(), {"name": _name(call)})


async def _realm(call: Call) -> Any:
    view = await call.context.realms.show(call.path["name"])
    return _plain(view, "name", "kind", "uri", "template", "base", "attribute", "filter", "bind_dn", "ca")


async def _remote(call: Call) -> Any:
    view = await call.context.remotes.show(call.path["name"])
    return _plain(view, "name", "host", "port", "auth_id", "fingerprint", "comment")


async def _sla(call: Call) -> Any:
    asked: Mapping[str, str] = call.query if call.body is None else _plain(call.body)
    name = group_of(asked["group"])
    wanted = {"namespace": str(name.namespace), "group": str(name.group)}
    rows = [row for row in await call.context.sla.list(asked["store"]) if row.set_by]
    fields = ("rpo_seconds", "min_bytes", "max_change_percent", "set_by")
    return _row(rows, wanted, "store", "namespace", "group", "state", *fields)


async def _task(call: Call) -> Any:
    return _plain(await call.context.tasks.get(call.path["upid"]), "upid", "type", "id", "state")


async def _slots(call: Call) -> Any:
    return {"slots": (await call.context.worker_status()).slots}


async def _keeping(call: Call) -> Any:
    return _plain(await call.context.task_keeping(None))


async def _service(call: Call) -> Any:
    rows = call.context.status().services
    found = _row(rows, {"role": call.path["role"]}, "role", "state", "since", "restarts", "last_error")
    if found is None:
        raise NotFoundError(f"no service role {call.path['role']}")
    return found


LOOKS: Final[Mapping[str, Look]] = {
    "acl_grant": _rules,
    "acl_revoke": _rules,
    "certificate_renew": _certificate,
    "certificate_replace": _certificate,
    "certificate_withdraw": _certificate,
    "clock_confirm": _clock,
    "compliance_set": _compliance,
    "datastore_maintenance": _datastore,
    "datastore_quarantine": _datastore,
    "datastore_release": _datastore,
    "datastore_remove": _datastore,
    "gc_pause": _gc,
    "gc_resume": _gc,
    "group_move": _group,
    "group_owner": _group,
    "host_remove": _host,
    "host_update": _host,
    "job_remove": _job,
    "job_update": _job,
    "keeping_set": _keeping,
    "key_policy_set": _key_policy,
    "key_policy_unset": _key_policy,
    "key_remove": _key,
    "key_retire": _key,
    "namespace_create": _namespace,
    "namespace_remove": _namespace,
    "notification_group_remove": _notified_group,
    "notification_group_set": _notified_group,
    "notification_rule_remove": _rule,
    "notification_rule_set": _rule,
    "notification_target_disable": _target,
    "notification_target_enable": _target,
    "notification_target_remove": _target,
    "notification_target_update": _target,
    "password_set": _login,
    "realm_remove": _realm,
    "realm_update": _realm,
    "remote_remove": _remote,
    "remote_update": _remote,
    "restart_service": _service,
    "retention_clear": _retention,
    "retention_set": _retention,
    "role_remove": _role,
    "role_update": _role,
    "schedule_set": _schedule,
    "schedule_unset": _schedule,
    "sla_set": _sla,
    "sla_unset": _sla,
    "snapshot_change": _snapshot,
    "snapshot_forget": _snapshot,
    "snapshot_lock": _snapshot,
    "sync_job_remove": _sync_job,
    "sync_job_update": _sync_job,
    "task_stop": _task,
    "token_change": _token,
    "token_remove": _token,
    "totp_disable": _login,
    "totp_enable": _login,
    "user_change": _user,
    "user_group_remove": _user_group,
    "user_group_update": _user_group,
    "user_remove": _user,
    "worker_set": _slots,
}

NOTHING_STOOD: Final = frozenset(
    {
        # What is made anew.
        "datastore_adopt",
        "datastore_create",
        "host_invite",
        "job_create",
        "key_register",
        "notification_target_create",
        "realm_create",
        "realm_test",
        "remote_create",
        "role_create",
        "sync_job_create",
        "token_create",
        "user_create",
        "user_group_create",
        # What begins or ends a piece of work, a session, a login: the work has a task and a row of its own.
        "agent_end",
        "agent_join",
        "backup_run",
        "bin_empty",
        "bin_undo",
        "bundle_start",
        "cleanup_start",
        "datastore_probe",
        "datastore_reindex",
        "gc_start",
        "gc_undo",
        "inject_fault",
        "job_run",
        "login",
        "logout",
        "notification_target_test",
        "prune_run",
        "reader_close",
        "reader_open",
        "remote_test",
        "session_abort",
        "session_commit",
        "session_open",
        "sync_job_repair",
        "sync_job_run",
        "sync_pull",
        "task_retry",
        "verify_start",
    }
)
"""Operations before which there is nothing to look at."""
