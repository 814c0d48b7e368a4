"""Bodies of the sync routes (`/api/v1/datastores/{store}/pull`)."""

from __future__ import annotations

from ibs.wire.common import Count, Seconds, Wire


class PullStart(Wire, frozen=True, kw_only=True):
    """Bring snapshots of `source`, a datastore of `remote`, that are not here yet. They keep their names.

    `groups` are globs over `host/web01`; `newest` counts in each group, after `max_age_seconds`. None and empty: all.
    """

    remote: str
    source: str
    namespace: str = ""
    groups: list[str] = []
    types: list[str] = []
    newest: Count | None = None
    max_age_seconds: Seconds | None = None
