"""The register of data keys: which keys clients may use where, and where nothing but encrypted snapshots is taken.

Made by `app`, used through `ServerContext.keys`; the engine asks it as a `ports.catalog.KeyRegistry`. Invariants: only
public halves are known here; a key is taken until it is retired, also when another replaces it; retiring and removing
change nothing about snapshots that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

import msgspec

from ibs.catalog.keys import KeyRow, KeyTable, PolicyRow
from ibs.core import limits_keys, publickey
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import Namespace, check_name
from ibs.core.publickey import PublicKey
from ibs.engine.datastores import Datastores
from ibs.errors import ConflictError, IbsError, NotFoundError, UsageError
from ibs.ports.catalog import RegisteredKey
from ibs.ports.clock import Clock
from ibs.services.hosts_book import moment
from ibs.wire.keys import KeyPolicy, KeyRegister, KeyScope, KeySnapshots, KeyView

ACTIVE: Final = "active"
REPLACED: Final = "replaced"
RETIRED: Final = "retired"
Views = list[KeyView]
Policies = list[KeyPolicy]


class Keys:
    """One a server."""

    def __init__(self, table: KeyTable, *, clock: Clock, publish: Callable[[Event], None]) -> None:
        self._table = table
        self._clock = clock
        self._publish = publish

    # --- what the engine asks ---

    async def find(self, store: str, namespace: str, fingerprint: str) -> RegisteredKey | None:
        """The key, if it may be used for backups in that place; that it was used is noted."""
        for row in await self._table.list(fingerprint):
            if row.state != RETIRED and _covers(row.datastore, row.namespace, store, namespace):
                await self._note_seen(row)
                return RegisteredKey(row.fingerprint, bytes.fromhex(row.signer))
        return None

    async def _note_seen(self, row: KeyRow) -> None:
        now = self._clock.now_ns()
        if abs(now - (row.last_seen_ns or 0)) >= limits_keys.KEY_SEEN_SECONDS * 10**9:
            await self._table.seen(row.fingerprint, row.datastore, row.namespace, now)

    async def encryption_required(self, store: str, namespace: str) -> bool:
        """What the most specific policy for that place says; False without one."""
        fitting = [
            row for row in await self._table.policies() if _covers(row.datastore, row.namespace, store, namespace)
        ]
        return max(fitting, key=lambda row: len(row.namespace)).required if fitting else False

    # --- what administrators do ---

    async def list(self) -> Views:
        """All keys, the one registered first at the top."""
        rows = sorted(await self._table.list(), key=lambda row: row.fingerprint)
        keys = [_view(list(scopes)) for _, scopes in groupby(rows, key=lambda row: row.fingerprint)]
        return sorted(keys, key=lambda key: (key.scopes[0].added, key.fingerprint))

    async def show(self, given: str, datastores: Datastores) -> KeyView:
        """One key and which snapshots need it. Raises NotFoundError."""
        rows = await self._rows(given)
        needed = await _needed_by(rows[0].fingerprint, datastores)
        return msgspec.structs.replace(_view(rows), needed_by=needed)

    async def export(self, given: str) -> PublicKey:
        """The file that was registered. Raises NotFoundError."""
        return msgspec.json.decode((await self._rows(given))[0].public, type=PublicKey)

    async def register(self, by: str, request: KeyRegister) -> KeyView:
        """Take a key into the register, in one scope or in those of the key it replaces.

        Raises FormatError, SignatureInvalid, UsageError, NotFoundError, ConflictError.
        """
        publickey.check(request.key)
        fingerprint = request.key.fingerprint
        known = await self._table.list(fingerprint)
        if any(row.state == RETIRED for row in known):
            raise ConflictError(
                f"key {fingerprint} was retired",
                hint="make a new key; to take this one again, remove it from the register first",
            )
        if known and known[0].signer != request.key.signer:
            raise ConflictError(f"key {fingerprint} is registered with another signing key", hint="see: key show")
        old = await self._replaced(request) if request.replaces else []
        places = [(row.datastore, row.namespace) for row in old] or [_place(request.datastore, request.namespace)]
        public = msgspec.json.encode(request.key).decode()
        row = KeyRow(
            fingerprint=fingerprint,
            datastore="",
            namespace="",
            signer=request.key.signer,
            comment=request.key.comment,
            state=ACTIVE,
            added_ns=self._clock.now_ns(),
            added_by=by,
            public=public,
        )
        have = {(row.datastore, row.namespace) for row in known}
        new = [replace(row, datastore=store, namespace=space) for store, space in places if (store, space) not in have]
        if not new and not old:
            raise ConflictError(f"key {fingerprint} is registered there already", hint="see: ironcore-backup key list")
        gone = [replace(one, state=REPLACED, replaced_by=fingerprint) for one in old]
        await self._table.put([*new, *gone])
        self._tell("key.registered", f"data key {_named(row)} is registered by {by}", fingerprint)
        return _view(await self._table.list(fingerprint))

    async def retire(self, by: str, given: str, datastores: Datastores, *, force: bool = False) -> KeyView:
        """Take no more backups with it. Without `force` only a key that no snapshot needs. Retired already is no error.

        Raises NotFoundError, ConflictError naming the snapshots that need it.
        """
        rows = await self._rows(given)
        if not force and any(row.state != RETIRED for row in rows):
            fingerprint = rows[0].fingerprint
            why, named = _why_needed(await _needed_by(fingerprint, datastores))
            if why:
                raise ConflictError(
                    f"key {fingerprint} is not retired: {why}",
                    hint="keep its keyfile for as long as they are there, and retire it all the same with --force; "
                    "see all of them: ironcore-backup key show",
                    fingerprint=fingerprint,
                    snapshots=named,
                )
        now = self._clock.now_ns()
        live = [row for row in rows if row.state != RETIRED]
        if live:
            await self._table.put([replace(row, state=RETIRED, retired_ns=now, retired_by=by) for row in live])
            self._tell("key.retired", f"data key {_named(rows[0])} is retired by {by}", rows[0].fingerprint)
        return _view(await self._table.list(rows[0].fingerprint))

    async def remove(self, given: str, datastores: Datastores) -> None:
        """Forget a key. Raises NotFoundError, ConflictError while snapshots need it or a datastore cannot be asked."""
        view = await self.show(given, datastores)
        why, _named = _why_needed(view.needed_by)
        if why:
            raise ConflictError(
                f"key {view.fingerprint} stays in the register: {why}",
                hint="retire it instead: no new backup is taken with it then",
            )
        await self._table.remove(view.fingerprint)

    async def policies(self) -> Policies:
        """Where encryption is demanded, and where it expressly is not."""
        return [_policy(row) for row in await self._table.policies()]

    async def set_policy(self, by: str, policy: KeyPolicy) -> KeyPolicy:
        """Demand encryption in a place, or take it back there. Raises UsageError."""
        store, namespace = _place(policy.datastore, policy.namespace)
        if not store:
            raise UsageError("a policy is for one datastore", hint="name the datastore")
        row = PolicyRow(
            datastore=store,
            namespace=namespace,
            required=policy.required,
            set_ns=self._clock.now_ns(),
            set_by=by,
        )
        await self._table.put_policy(row)
        return _policy(row)

    async def unset_policy(self, datastore: str, namespace: str) -> None:
        """What stands above holds again. Raises NotFoundError."""
        if not await self._table.remove_policy(*_place(datastore, namespace)):
            raise NotFoundError("no policy is set there", hint="see: ironcore-backup key policy list")

    async def _rows(self, given: str) -> Sequence[KeyRow]:
        """By fingerprint, or its first bytes where only one key begins so."""
        prefix = given.strip().lower()
        rows = await self._table.list()
        fitting = sorted({row.fingerprint for row in rows if prefix and row.fingerprint.startswith(prefix)})
        if len(fitting) != 1:
            why = f"{len(fitting)} keys begin with {given[:100]}" if fitting else f"no key {given[:100]} is registered"
            raise NotFoundError(why, hint="see: ironcore-backup key list")
        return [row for row in rows if row.fingerprint == fitting[0]]

    async def _replaced(self, request: KeyRegister) -> Sequence[KeyRow]:
        if request.datastore or request.namespace:
            raise UsageError("a key that replaces another gets its scopes", hint="leave datastore and namespace out")
        old = await self._rows(request.replaces)
        if old[0].fingerprint == request.key.fingerprint:
            raise UsageError("a key cannot replace itself", hint="register the new key's public half")
        if old[0].state == RETIRED:
            raise ConflictError("the key to be replaced is retired already", hint="register the new one by its scope")
        return old

    def _tell(self, kind: str, text: str, fingerprint: str) -> None:
        fields = {"fingerprint": fingerprint}
        self._publish(Event(self._clock.now(), EventSource.CONFIGURATION, Severity.NOTICE, kind, text, fields))


async def _needed_by(fingerprint: str, datastores: Datastores) -> list[KeySnapshots]:
    found = []
    for view in await datastores.list():
        try:
            store = await datastores.get(view.name)
            names = await store.snapshots.needing_key(fingerprint)
            binned = [entry.snapshot for entry in await store.bin.entries() if entry.key == fingerprint]
        except IbsError as error:
            found.append(KeySnapshots(datastore=view.name, offline=error.message))
            continue
        if names or binned:  # what is in the bin may come back, and would be lost without the key
            told = [str(name) for name in names] + [f"{name} (in the bin)" for name in binned]
            groups, size = await store.snapshots.rekeying(names)
            found.append(
                KeySnapshots(
                    datastore=view.name,
                    count=len(told),
                    snapshots=told[: limits_keys.KEY_SNAPSHOTS_LISTED],
                    groups=groups,
                    newest_bytes=size,
                )
            )
    return found


def _why_needed(needed: Sequence[KeySnapshots]) -> tuple[str, Sequence[str]]:
    """One clause that names the first snapshots, "" when none needs the key; and all that are known by name."""
    named = [f"{each.datastore}:{name}" for each in needed for name in each.snapshots]
    offline = [each.datastore for each in needed if each.offline]
    reasons = []
    if count := sum(each.count for each in needed):
        shown = ", ".join(named[: limits_keys.KEY_SNAPSHOTS_SAID]) + (
            ", …" if count > limits_keys.KEY_SNAPSHOTS_SAID else ""
        )
        reasons.append(f"{count} {'snapshot needs' if count == 1 else 'snapshots need'} it ({shown})")
    if offline:
        reasons.append(f"datastore {', '.join(offline)} cannot be asked")
    return " and ".join(reasons), named


def _covers(datastore: str, namespace: str, store: str, wanted: str) -> bool:
    """Whether a scope holds for namespace `wanted` of `store`."""
    if datastore and datastore != store:
        return False
    return not namespace or wanted == namespace or wanted.startswith(namespace + "/")


def _place(datastore: str, namespace: str) -> tuple[str, str]:
    """Raises UsageError."""
    if datastore:
        check_name(datastore, "datastore")
    elif namespace:
        raise UsageError("a namespace is one of a datastore", hint="name the datastore as well")
    return datastore, str(Namespace.parse(namespace))


def _view(rows: Sequence[KeyRow]) -> KeyView:
    first = rows[0]
    scopes = [
        KeyScope(
            datastore=row.datastore,
            namespace=row.namespace,
            added=moment(row.added_ns),
            added_by=row.added_by,
            last_seen=moment(row.last_seen_ns),
        )
        for row in rows
    ]
    return KeyView(
        fingerprint=first.fingerprint,
        comment=first.comment,
        state=first.state,
        scopes=scopes,
        signer=first.signer,
        replaced_by=first.replaced_by,
        retired=moment(first.retired_ns),
        retired_by=first.retired_by,
        last_seen=moment(max((row.last_seen_ns or 0 for row in rows), default=0) or None),
    )


def _policy(row: PolicyRow) -> KeyPolicy:
    return KeyPolicy(
        datastore=row.datastore,
        namespace=row.namespace,
        required=row.required,
        set=moment(row.set_ns),
        set_by=row.set_by,
    )


def _named(row: KeyRow) -> str:
    return f"{row.comment} ({row.fingerprint})" if row.comment else row.fingerprint
