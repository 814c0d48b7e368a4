"""Bodies of the key routes (`/api/v1/keys…`): public halves of data keys, and where encryption is demanded."""

from __future__ import annotations

from ibs.core.publickey import PublicKey
from ibs.wire.common import Count, Wire


class KeyRegister(Wire, frozen=True, kw_only=True):
    """`datastore` "" is every datastore, `namespace` "" all of it; a namespace stands for those below it as well."""

    key: PublicKey
    datastore: str = ""
    namespace: str = ""
    replaces: str = ""
    """Fingerprint of a registered key whose scopes it gets; that one stays valid until it is retired."""


class KeyScope(Wire, frozen=True, kw_only=True):
    datastore: str = ""
    namespace: str = ""
    added: str
    added_by: str
    last_seen: str = ""


class KeySnapshots(Wire, frozen=True, kw_only=True):
    """What needs a key in one datastore. `snapshots` are the first ones, by name; `offline` says why it is unknown.

    `groups` have a newest snapshot under it, of `newest_bytes` together: after a change of key the next backups read,
    send and store that much again.
    """

    datastore: str
    count: Count = 0
    snapshots: list[str] = []
    groups: Count = 0
    newest_bytes: Count = 0
    offline: str = ""


class KeyView(Wire, frozen=True, kw_only=True):
    """`state` is active, replaced (still taken) or retired. `needed_by` is there where one key is asked for.

    `last_seen`: about when a backup last came with it, to the hour; "" when none has.
    """

    fingerprint: str
    comment: str = ""
    state: str
    scopes: list[KeyScope]
    signer: str
    replaced_by: str = ""
    retired: str = ""
    retired_by: str = ""
    last_seen: str = ""
    needed_by: list[KeySnapshots] = []


class KeyPolicy(Wire, frozen=True, kw_only=True):
    """Whether only encrypted snapshots may be made in a datastore or namespace; the most specific one decides."""

    datastore: str
    namespace: str = ""
    required: bool = True
    set: str = ""
    set_by: str = ""
