"""The life of snapshots: notes, protection, bin, namespaces, owners, the store's clock, retention, pruning.

The use cases are in `engine`, reached through the desks `lifecycle` and `pruning`. Here is decided whose groups a
caller may touch: those with the wider privilege all, others only their own (core.access, table of group actions).
"""

from __future__ import annotations

from ibs.control.routes.sessions import datastore_path
from ibs.control.routing import Call, Query, Routes, authenticated, needs
from ibs.core.access import Privilege, owns
from ibs.core.names import Namespace, SnapshotName
from ibs.services.lifecycle import May, group_of
from ibs.wire.common import TaskStarted
from ibs.wire.datastore import SnapshotView
from ibs.wire.lifecycle import (
    BinEmptied,
    BinEmpty,
    BinUndo,
    BinView,
    ClockView,
    GroupMove,
    GroupMoved,
    GroupOwnerChanged,
    GroupOwnerSet,
    NamespaceCreate,
    NamespaceRemove,
    NamespaceRemoved,
    NamespaceView,
    PrunePlanView,
    PruneRequest,
    RetentionSet,
    RetentionView,
    SnapshotChange,
    SnapshotForget,
    SnapshotRef,
)

routes = Routes("lifecycle")
_PRUNERS = authenticated("Datastore.Modify on the namespace, or Datastore.Prune and the caller's own groups")
_SEERS = authenticated("Datastore.Audit on the namespace, or Datastore.Backup and the caller's own groups")
_NAMESPACE = Query("namespace", doc="such as a/b; empty for the root")


def _owner(call: Call, namespace: Namespace, every: Privilege, own: Privilege) -> str:
    """ "" when the caller may touch every group of the namespace, else the caller. Raises NotAuthorised."""
    path = datastore_path(call.path["store"], str(namespace))
    if call.context.access.allows(call.principal, every, path):
        return ""
    call.context.access.require(call.principal, own, path)
    return call.principal.auth_id


def _somewhere(call: Call, every: Privilege, own: Privilege) -> None:
    """For lists that show what the caller may see: whoever may see nothing in the store is refused.

    Raises NotAuthorised.
    """
    access, path = call.context.access, datastore_path(call.path["store"], "")
    if not any(access.allows_within(call.principal, privilege, path) for privilege in (every, own)):
        access.require(call.principal, own, path)


def _may(call: Call, every: Privilege, own: Privilege) -> May:
    """Whether a group of that owner in that namespace is the caller's to touch."""
    access, principal, store = call.context.access, call.principal, call.path["store"]

    def may(namespace: Namespace, owner: str) -> bool:
        path = datastore_path(store, str(namespace))
        if access.allows(principal, every, path):
            return True
        return bool(owner) and owns(principal.auth_id, owner) and access.allows(principal, own, path)

    return may


# --- snapshots ---


@routes.route(
    "POST",
    "/datastores/{store}/snapshot",
    access=authenticated("Datastore.Modify on the namespace, or Datastore.Backup and the caller's own groups"),
    body=SnapshotChange,
    answer=SnapshotView,
)
async def snapshot_change(call: Call) -> SnapshotView:
    """Change a snapshot's notes, or protect it from removal."""
    request: SnapshotChange = call.body
    name = SnapshotName.parse(request.snapshot)
    # Protection outlives its maker's rights to remove: to take it off is a step towards removal.
    own = Privilege.DATASTORE_PRUNE if request.protected is False else Privilege.DATASTORE_BACKUP
    owner = _owner(call, name.namespace, Privilege.DATASTORE_MODIFY, own)
    await call.look()
    return await call.context.lifecycle.change(call.path["store"], call.principal.auth_id, request, owner=owner)


@routes.route("POST", "/datastores/{store}/snapshot/forget", access=_PRUNERS, body=SnapshotForget, answer=BinView)
async def snapshot_forget(call: Call) -> BinView:
    """Move a snapshot to the recycle bin."""
    request: SnapshotForget = call.body
    space = SnapshotName.parse(request.snapshot).namespace
    owner = _owner(call, space, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    store, auth_id = call.path["store"], call.principal.auth_id
    await call.look()
    return await call.context.lifecycle.forget(store, auth_id, request.snapshot, request.why, owner=owner)


# --- the bin ---


@routes.route("GET", "/datastores/{store}/bin", access=_SEERS, answer=list[BinView])
async def bin_list(call: Call) -> list[BinView]:
    """List forgotten snapshots, and when they go for good."""
    _somewhere(call, Privilege.DATASTORE_AUDIT, Privilege.DATASTORE_BACKUP)
    may = _may(call, Privilege.DATASTORE_AUDIT, Privilege.DATASTORE_BACKUP)
    return await call.context.lifecycle.bin_list(call.path["store"], may)


@routes.route("POST", "/datastores/{store}/bin/undo", access=_PRUNERS, body=BinUndo, answer=SnapshotRef)
async def bin_undo(call: Call) -> SnapshotRef:
    """Move a forgotten snapshot back to its place."""
    request: BinUndo = call.body
    if "/" in request.entry:
        space = SnapshotName.parse(request.entry).namespace
        _owner(call, space, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    else:  # an entry by its own name does not tell its namespace: `may` decides when it is found
        _somewhere(call, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    may = _may(call, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    store, auth_id = call.path["store"], call.principal.auth_id
    return SnapshotRef(snapshot=await call.context.lifecycle.bin_undo(store, auth_id, request.entry, may))


@routes.route(
    "POST",
    "/datastores/{store}/bin/empty",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    body=BinEmpty,
    answer=BinEmptied,
)
async def bin_empty(call: Call) -> BinEmptied:
    """Remove forgotten snapshots for good, before their time."""
    return await call.context.lifecycle.bin_empty(call.path["store"], call.principal.auth_id, call.body.entry)


# --- namespaces and groups ---


@routes.route(
    "GET",
    "/datastores/{store}/namespaces",
    access=authenticated("namespaces where the caller has Datastore.Audit or Datastore.Backup"),
    answer=list[NamespaceView],
)
async def namespace_list(call: Call) -> list[NamespaceView]:
    """List the namespaces with what is in them."""
    access, store = call.context.access, call.path["store"]
    seeing = (Privilege.DATASTORE_AUDIT, Privilege.DATASTORE_BACKUP)
    _somewhere(call, *seeing)

    def sees(namespace: Namespace) -> bool:
        path = datastore_path(store, str(namespace))
        return any(access.allows(call.principal, privilege, path) for privilege in seeing)

    return await call.context.lifecycle.namespaces(store, sees)


@routes.route(
    "POST",
    "/datastores/{store}/namespaces",
    access=authenticated("Datastore.Modify on the namespace above"),
    body=NamespaceCreate,
    answer=NamespaceView,
    status=201,
)
async def namespace_create(call: Call) -> NamespaceView:
    """Make a namespace and those above it."""
    request: NamespaceCreate = call.body
    call.context.access.require(
        call.principal, Privilege.DATASTORE_MODIFY, datastore_path(call.path["store"], request.namespace)
    )
    await call.look()
    return await call.context.lifecycle.create_namespace(call.path["store"], call.principal.auth_id, request.namespace)


@routes.route(
    "POST",
    "/datastores/{store}/namespaces/remove",
    access=authenticated("Datastore.Modify on the namespace"),
    body=NamespaceRemove,
    answer=NamespaceRemoved,
)
async def namespace_remove(call: Call) -> NamespaceRemoved:
    """Remove an empty namespace; when asked, move what is in it to the recycle bin first."""
    request: NamespaceRemove = call.body
    store, auth_id = call.path["store"], call.principal.auth_id
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, request.namespace))
    await call.look()
    return await call.context.lifecycle.remove_namespace(store, auth_id, request.namespace, recursive=request.recursive)


@routes.route(
    "POST",
    "/datastores/{store}/groups/owner",
    access=authenticated("Datastore.Modify on the namespace"),
    body=GroupOwnerSet,
    answer=GroupOwnerChanged,
)
async def group_owner(call: Call) -> GroupOwnerChanged:
    """Give a group to another identity; repairs a lost owner too."""
    request: GroupOwnerSet = call.body
    store, space = call.path["store"], group_of(request.group).namespace
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, str(space)))
    await call.look()
    return await call.context.lifecycle.set_owner(store, call.principal.auth_id, request.group, request.owner)


@routes.route(
    "POST",
    "/datastores/{store}/groups/move",
    access=authenticated("Datastore.Modify on both namespaces"),
    body=GroupMove,
    answer=GroupMoved,
)
async def group_move(call: Call) -> GroupMoved:
    """Move a group to another namespace, if the server had signed all of it; the old snapshots go to the bin."""
    request: GroupMove = call.body
    store, auth_id = call.path["store"], call.principal.auth_id
    for space in (str(group_of(request.group).namespace), request.namespace):
        call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, space))
    await call.look()
    return await call.context.lifecycle.move_group(store, auth_id, request.group, request.namespace)


# --- the store's clock ---


@routes.route(
    "GET",
    "/datastores/{store}/clock",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=ClockView,
)
async def clock_show(call: Call) -> ClockView:
    """Show the datastore's own clock, by which bin and trash expire."""
    return await call.context.lifecycle.clock(call.path["store"])


@routes.route(
    "POST",
    "/datastores/{store}/clock/confirm",
    access=needs(Privilege.DATASTORE_MODIFY, "/datastore/{store}"),
    answer=ClockView,
)
async def clock_confirm(call: Call) -> ClockView:
    """Say that the machine's clock is right: the datastore's goes on from it, and what is due expires."""
    return await call.context.lifecycle.confirm_clock(call.path["store"], call.principal.auth_id)


# --- retention and pruning ---


@routes.route(
    "GET",
    "/datastores/{store}/retention",
    access=needs(Privilege.DATASTORE_AUDIT, "/datastore/{store}"),
    answer=list[RetentionView],
)
async def retention_show(call: Call) -> list[RetentionView]:
    """Show the retention of the datastore and of its namespaces."""
    return await call.context.pruning.retention(call.path["store"])


@routes.route(
    "POST",
    "/datastores/{store}/retention",
    access=authenticated("Datastore.Modify on the namespace"),
    body=RetentionSet,
    answer=RetentionView,
)
async def retention_set(call: Call) -> RetentionView:
    """Set the retention of the datastore or a namespace."""
    request: RetentionSet = call.body
    store = call.path["store"]
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, request.namespace))
    await call.look()
    return await call.context.pruning.set_retention(store, call.principal.auth_id, request)


@routes.route(
    "DELETE",
    "/datastores/{store}/retention",
    access=authenticated("Datastore.Modify on the namespace"),
    answer=None,
    query=[_NAMESPACE],
)
async def retention_clear(call: Call) -> None:
    """Take a retention away; that of the level above counts again."""
    store, namespace = call.path["store"], call.query["namespace"]
    call.context.access.require(call.principal, Privilege.DATASTORE_MODIFY, datastore_path(store, namespace))
    await call.look()
    await call.context.pruning.clear_retention(store, call.principal.auth_id, namespace)


@routes.route(
    "POST",
    "/datastores/{store}/prune/simulate",
    access=authenticated("Datastore.Audit on the namespace, or Datastore.Prune and the caller's own groups"),
    body=PruneRequest,
    answer=PrunePlanView,
)
async def prune_simulate(call: Call) -> PrunePlanView:
    """Show what pruning would do now, with the rule that keeps each snapshot; changes nothing."""
    request: PruneRequest = call.body
    space = Namespace.parse(request.namespace)
    _owner(call, space, Privilege.DATASTORE_AUDIT, Privilege.DATASTORE_PRUNE)
    may = _may(call, Privilege.DATASTORE_AUDIT, Privilege.DATASTORE_PRUNE)
    return await call.context.pruning.simulate(call.path["store"], request, may)


@routes.route("POST", "/datastores/{store}/prune", access=_PRUNERS, body=PruneRequest, answer=TaskStarted)
async def prune_run(call: Call) -> TaskStarted:
    """Prune by retention; what goes is in the recycle bin for its grace."""
    request: PruneRequest = call.body
    space = Namespace.parse(request.namespace)
    _owner(call, space, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    may = _may(call, Privilege.DATASTORE_MODIFY, Privilege.DATASTORE_PRUNE)
    upid = await call.context.pruning.run(call.path["store"], call.principal.auth_id, request, may)
    return TaskStarted(upid=upid)
