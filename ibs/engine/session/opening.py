"""Opening a write session: names, key, owner, time, base, resumption. Nothing is changed before all is found right.

Used by `engine.session.table` only, under the group's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from ibs.core import limits
from ibs.core import manifest as manifests
from ibs.core.access import owns
from ibs.core.ids import digest, parse_fingerprint
from ibs.core.index import distinct
from ibs.core.manifest import GroupMark
from ibs.core.names import Group, Namespace, SnapshotName, check_archive, format_time, parse_time
from ibs.engine.context import StoreContext
from ibs.engine.folders import StoredSnapshot
from ibs.engine.session.bases import Base, base_file, pin_bases, present
from ibs.engine.session.discard import remove_staging
from ibs.engine.session.facts import SESSION_FILE, Foreign, SessionFacts
from ibs.engine.session.journal import journal_blocks
from ibs.engine.session.pins import PinSet
from ibs.errors import (
    ConflictError,
    EncryptionRequired,
    FormatError,
    IbsError,
    KeyNotRegistered,
    NotFoundError,
    RefusedError,
    UsageError,
)
from ibs.ports.chunkstore import PLAIN_DOMAIN
from ibs.storage.local.workfolder import WorkFolder
from ibs.wire.session import SessionOpen, SessionOpened


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked request. `signer` (hex) and `domain` belong to the registered key; "" and zeros when plain."""

    auth_id: str
    namespace: Namespace
    group: Group
    archives: tuple[str, ...]
    key_fingerprint: str
    domain: bytes
    signer: str
    use_base: bool
    upid: str
    signing_key: str = ""
    """Fingerprint of the registered key that a plain snapshot is signed with."""
    foreign: Foreign | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A session ready on disk. `resumed` are concatenated ids; they are among the pins already. `left`: heirs whose
    folders could not be removed; nothing is lost, they can be inherited or discarded another time.
    """

    facts: SessionFacts
    folder: WorkFolder
    pins: PinSet
    bases: dict[str, Base]
    resumed: bytes
    opened: SessionOpened
    left: tuple[str, ...] = ()


async def check_request(context: StoreContext, auth_id: str, request: SessionOpen, upid: str) -> Wanted:
    """Raises UsageError, KeyNotRegistered, EncryptionRequired. No data has moved and nothing was made when it does."""
    if request.store != context.name:
        raise UsageError(f"the request names datastore {request.store!r}, it was sent to {context.name}")
    namespace, group = Namespace.parse(request.namespace), Group.parse(request.group)
    archives = tuple(check_archive(archive) for archive in request.archives)
    if not 1 <= len(archives) <= limits.MANIFEST_ARCHIVES_MAX or len(set(archives)) != len(archives):
        raise UsageError(
            f"{len(archives)} archives were named", hint=f"name 1 to {limits.MANIFEST_ARCHIVES_MAX}, each once"
        )
    files = {f"{archive}.idx" for archive in archives}
    if files & {base_file(archive) for archive in archives}:
        raise UsageError("two archives have names too alike", hint="do not name one archive base- and another's name")
    domain, signer, signing = PLAIN_DOMAIN, "", ""
    if request.key_fingerprint:
        domain = parse_fingerprint(request.key_fingerprint)
        signer = await _signer(context, request, domain)
    elif await context.keys.encryption_required(context.name, request.namespace):
        raise EncryptionRequired(context.name, request.namespace)
    elif request.signing_key:
        key = parse_fingerprint(request.signing_key)
        signer, signing = await _signer(context, request, key), key.hex(":")
    fingerprint = domain.hex(":") if request.key_fingerprint else ""
    return Wanted(
        auth_id,
        namespace,
        group,
        archives,
        fingerprint,
        domain,
        signer,
        use_base=request.use_base,
        upid=upid,
        signing_key=signing,
    )


def check_foreign(context: StoreContext, auth_id: str, foreign: Foreign, upid: str) -> Wanted:
    """A request to keep a snapshot of another datastore as it is.

    Raises UsageError, FormatError, SignatureInvalid (not signed by that server, nor by a client), ConflictError.
    """
    manifest, signature = foreign.manifest, foreign.signature
    manifests.verify(foreign.raw, signature, signer=None if signature.by == "client" else foreign.signer)
    name = SnapshotName.parse(manifest.snapshot)
    if context.folders.exists(name):
        raise ConflictError(f"snapshot {name} is there already", hint="see: snapshot show")
    encrypted = manifest.mode == "encrypted"
    return Wanted(
        auth_id,
        name.namespace,
        name.group,
        tuple(archive.name for archive in manifest.archives),
        manifest.key_fingerprint if encrypted else "",
        parse_fingerprint(manifest.key_fingerprint) if encrypted else PLAIN_DOMAIN,
        signature.signer,
        use_base=False,
        upid=upid,
        foreign=foreign,
    )


async def _signer(context: StoreContext, request: SessionOpen, key: bytes) -> str:
    """The public half (hex) of a registered key. Raises KeyNotRegistered."""
    found = await context.keys.find(context.name, request.namespace, key.hex(":"))
    if found is None:
        raise KeyNotRegistered(key.hex(":"))
    return found.signer.hex()


def check_owner(context: StoreContext, wanted: Wanted) -> None:
    """Raises RefusedError when the group belongs to somebody else. Who that is, is not told."""
    owner = context.folders.owner(wanted.namespace, wanted.group)
    if owner and not owns(wanted.auth_id, owner):
        raise RefusedError(
            f"not authorised: {wanted.auth_id} does not own group {wanted.group}",
            hint="back up as the identity that made the group's first backup, or under another backup id",
        )


def prepare(
    context: StoreContext, wanted: Wanted, epoch: int, heirs: Sequence[str], after: Sequence[datetime]
) -> Prepared:
    """Make the session on disk. Blocks. `heirs`: interrupted sessions whose chunks it takes over, their folders go;
    `after`: times it must be later than, beside those of the group's snapshots.

    Raises RefusedError, NoSpace and what the store raises; the new folder is gone then and the old ones are kept.
    """
    check_owner(context, wanted)
    newest = _newest(context, wanted) if wanted.foreign is None else None
    session_id = context.new_id()
    folder = context.store.staging.create(session_id)
    try:
        if wanted.foreign is not None:
            facts = _foreign_facts(context, wanted, session_id, epoch, wanted.foreign)
        else:
            moment = _moment(context, wanted, after)
            facts = _facts(context, wanted, session_id, epoch, newest, moment)
        folder.write(SESSION_FILE, msgspec.json.encode(facts))
        bases = {}
        if newest is not None and wanted.use_base:
            bases = {base.view.archive: base for base in pin_bases(context, folder, facts, newest)}
        pins = PinSet(facts.domain_bytes, folder, context.gate, [base.available for base in bases.values()])
        resumed = _inherit(context, pins, heirs)
    except BaseException:
        remove_staging(context.store, session_id)
        raise
    left = tuple(heir for heir in heirs if not _removed(context, heir))  # their ids are in our journal now
    return Prepared(facts, folder, pins, bases, resumed, _answer(facts, newest, bases, resumed), left)


def _removed(context: StoreContext, session_id: str) -> bool:
    try:
        remove_staging(context.store, session_id)
    except IbsError:
        return False
    return True


def _newest(context: StoreContext, wanted: Wanted) -> StoredSnapshot | None:
    name = context.folders.newest(wanted.namespace, wanted.group)
    if name is None:
        return None
    try:
        return context.folders.load(name)
    except FormatError as error:
        raise FormatError(
            f"the newest snapshot of {wanted.group} is damaged: {error.message}",
            hint="restore it from a replica, or remove it, then back up again",
        ) from error


def _moment(context: StoreContext, wanted: Wanted, after: Sequence[datetime]) -> datetime:
    """Now, or as much later as it takes to come after every other snapshot and session of the group."""
    now = context.clock.now().astimezone(UTC).replace(microsecond=0)
    earlier = [*after, *context.folders.times(wanted.namespace, wanted.group)]
    if (last := _mark(context, wanted).time) != "":
        earlier.append(parse_time(last))
    return max([now, *(one + timedelta(seconds=1) for one in earlier)])


def _mark(context: StoreContext, wanted: Wanted) -> GroupMark:
    """What has left the group and must not be given again; nothing when that cannot be read."""
    try:
        return context.folders.mark(wanted.namespace, wanted.group)
    except FormatError:
        return GroupMark()


def _facts(  # noqa: PLR0917 - one call, in order of the fields
    context: StoreContext, wanted: Wanted, session_id: str, epoch: int, newest: StoredSnapshot | None, moment: datetime
) -> SessionFacts:
    return SessionFacts(
        session_id=session_id,
        store_uuid=context.uuid,
        auth_id=wanted.auth_id,
        snapshot=str(SnapshotName(wanted.namespace, wanted.group, moment)),
        archives=list(wanted.archives),
        domain=wanted.domain.hex(),
        key_fingerprint=wanted.key_fingerprint,
        signing_key=wanted.signing_key,
        epoch=epoch,
        opened=format_time(context.clock.now()),
        upid=wanted.upid,
        sequence=max(newest.manifest.sequence if newest is not None else 0, _mark(context, wanted).sequence) + 1,
        previous=newest.digest.hex() if newest is not None else "",
        signer=wanted.signer,
    )


def _foreign_facts(
    context: StoreContext, wanted: Wanted, session_id: str, epoch: int, foreign: Foreign
) -> SessionFacts:
    """Name, number and predecessor are those that were given elsewhere."""
    return SessionFacts(
        session_id=session_id,
        store_uuid=context.uuid,
        auth_id=wanted.auth_id,
        snapshot=foreign.manifest.snapshot,
        archives=list(wanted.archives),
        domain=wanted.domain.hex(),
        key_fingerprint=wanted.key_fingerprint,
        epoch=epoch,
        opened=format_time(context.clock.now()),
        upid=wanted.upid,
        sequence=foreign.manifest.sequence,
        previous=foreign.manifest.previous,
        signer=wanted.signer,
        foreign=digest(foreign.raw).hex(),
    )


def _inherit(context: StoreContext, pins: PinSet, heirs: Sequence[str]) -> bytes:
    """Take over what interrupted sessions delivered; return the ids of it that are really there."""
    usable: list[bytes] = []
    for heir in heirs:
        try:
            folder = context.store.staging.folder(heir)
        except NotFoundError:
            continue  # discarded a moment ago
        for _, some in journal_blocks(folder):
            ids = distinct(some)
            ids = ids[pins.rows(ids) < 0]
            if len(ids):
                # All of them go into the journal, usable or not: whoever discards us must find them. They are announced
                # before the store is asked, so that no deletion under way takes what we are about to promise.
                first = pins.promise(ids)
                there = present(context.store, pins.domain, ids)
                pins.inherit(first, ids, there)
                usable.append(ids[there].tobytes())
    return b"".join(usable)


def _answer(
    facts: SessionFacts, newest: StoredSnapshot | None, bases: dict[str, Base], resumed: bytes
) -> SessionOpened:
    return SessionOpened(
        session_id=facts.session_id,
        upid=facts.upid,
        datastore_uuid=facts.store_uuid,
        snapshot=facts.snapshot,
        sequence=facts.sequence,
        previous_manifest_digest=facts.previous,
        bases=[base.view for base in bases.values()],
        base_run=newest.manifest.run if newest is not None and bases else 0,
        resumed_chunks=len(resumed) // 32,
        heartbeat_seconds=limits.SESSION_HEARTBEAT_SECONDS,
        auth_id=facts.auth_id,
        previous_key=newest.manifest.key_fingerprint if newest is not None and newest.encrypted else "",
    )
