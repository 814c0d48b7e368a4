"""Bodies of the realm routes (`/api/v1/realms…`): where passwords of users are kept that are not the server's own."""

from __future__ import annotations

from ibs.wire.common import Wire


class RealmSet(Wire, frozen=True, kw_only=True):
    """A new realm, or what of one shall change: None stays as it is. `secret` is the bind password, kept sealed."""

    name: str
    uri: str | None = None
    template: str | None = None
    base: str | None = None
    attribute: str | None = None
    filter: str | None = None
    bind_dn: str | None = None
    secret: str | None = None
    ca: str | None = None


class RealmView(Wire, frozen=True, kw_only=True):
    """Never with its secret. `ca` is PEM; "" trusts what the system trusts."""

    name: str
    kind: str
    uri: str
    template: str = ""
    base: str = ""
    attribute: str = ""
    filter: str = ""
    bind_dn: str = ""
    ca: str = ""
