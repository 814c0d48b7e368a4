"""Bodies of the remote routes (`/api/v1/remotes…`): other servers of this product that this one copies from and to."""

from __future__ import annotations

from ibs.wire.common import Count, Wire


class RemoteSet(Wire, frozen=True, kw_only=True):
    """A new remote, or what of one shall change: None stays as it is. `secret` is the token's, kept sealed."""

    name: str
    host: str | None = None
    port: Count | None = None
    auth_id: str | None = None
    secret: str | None = None
    fingerprint: str | None = None
    comment: str | None = None


class RemoteView(Wire, frozen=True, kw_only=True):
    """`signer` is the key (hex) the remote signs manifests with, learned at the first contact and pinned since.

    `trouble` is what the last contact failed with; "" when it did not.
    """

    name: str
    host: str
    port: Count
    auth_id: str
    fingerprint: str
    comment: str = ""
    signer: str = ""
    last_contact: str = ""
    trouble: str = ""


class RemoteStore(Wire, frozen=True, kw_only=True):
    """A datastore of the remote as its identity there may see it."""

    name: str
    status: str
    reason: str = ""


class RemoteTest(Wire, frozen=True, kw_only=True):
    """What a contact found."""

    name: str
    auth_id: str
    signer: str
    version: str
    milliseconds: Count
    datastores: list[RemoteStore]
