"""The register of data keys: public halves only, so that nobody learns anything here that opens a backup."""

from __future__ import annotations

from typing import Any

from ibs.control.routing import Call, Query, Routes, needs
from ibs.core.access import Privilege
from ibs.core.publickey import PublicKey
from ibs.wire.keys import KeyPolicy, KeyRegister, KeyView

routes = Routes("keys")
_LOOK = needs(Privilege.SYSTEM_AUDIT, "/system")
_CHANGE = needs(Privilege.SYSTEM_MODIFY, "/system")
_FORCE = Query("force", "boolean", default=False, doc="also while snapshots need it")
_PLACE = [Query("datastore", doc="the datastore"), Query("namespace", doc="the namespace; empty: all of it")]


def _facts(key: KeyView) -> dict[str, Any]:
    """What of a key is set by people, for the audit log."""
    scopes = [f"{scope.datastore}/{scope.namespace}" for scope in key.scopes]
    return {"comment": key.comment, "state": key.state, "scopes": scopes, "replaced_by": key.replaced_by}


@routes.route("GET", "/keys", access=_LOOK, answer=list[KeyView])
async def key_list(call: Call) -> list[KeyView]:
    """List the registered data keys."""
    return await call.context.keys.list()


@routes.route("POST", "/keys", access=_CHANGE, body=KeyRegister, answer=KeyView, status=201)
async def key_register(call: Call) -> KeyView:
    """Register a data key by its public half, in a scope or in place of another key."""
    made = await call.context.keys.register(call.principal.auth_id, call.body)
    call.audit = {"before": None, "after": _facts(made)}  # the body holds the public half whole
    return made


@routes.route("GET", "/keys/{fingerprint}", access=_LOOK, answer=KeyView)
async def key_show(call: Call) -> KeyView:
    """Show a key and the snapshots that need it."""
    return await call.context.keys.show(call.path["fingerprint"], call.context.datastores)


@routes.route("GET", "/keys/{fingerprint}/public", access=_LOOK, answer=PublicKey)
async def key_export(call: Call) -> PublicKey:
    """Give a key's public half as it was registered."""
    return await call.context.keys.export(call.path["fingerprint"])


@routes.route("POST", "/keys/{fingerprint}/retire", access=_CHANGE, answer=KeyView, query=[_FORCE])
async def key_retire(call: Call) -> KeyView:
    """Take no more backups with a key; what it encrypted stays readable for whoever has it."""
    fingerprint, keys = call.path["fingerprint"], call.context.keys
    before = await keys.show(fingerprint, call.context.datastores)
    await keys.retire(call.principal.auth_id, before.fingerprint, call.context.datastores, force=call.query["force"])
    return await keys.show(before.fingerprint, call.context.datastores)


@routes.route("DELETE", "/keys/{fingerprint}", access=_CHANGE, answer=None)
async def key_remove(call: Call) -> None:
    """Forget a key that no snapshot needs."""
    keys, datastores = call.context.keys, call.context.datastores
    await keys.remove((await keys.show(call.path["fingerprint"], datastores)).fingerprint, datastores)


@routes.route("GET", "/key-policies", access=_LOOK, answer=list[KeyPolicy])
async def key_policies(call: Call) -> list[KeyPolicy]:
    """List where encryption is demanded."""
    return await call.context.keys.policies()


@routes.route("POST", "/key-policies", access=_CHANGE, body=KeyPolicy, answer=KeyPolicy)
async def key_policy_set(call: Call) -> KeyPolicy:
    """Demand encryption in a datastore or namespace, or expressly do not."""
    await call.context.datastores.view(call.body.datastore)  # a policy for what is not there is a typing mistake
    return await call.context.keys.set_policy(call.principal.auth_id, call.body)


@routes.route("DELETE", "/key-policies", access=_CHANGE, answer=None, query=_PLACE)
async def key_policy_unset(call: Call) -> None:
    """Let the policy of the place above hold again."""
    await call.context.keys.unset_policy(call.query["datastore"], call.query["namespace"])
