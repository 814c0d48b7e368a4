"""Bounds of identities, roles and logins, beside those in `core.limits`. Pure; anyone may import it."""

from __future__ import annotations

ROLES_MAX = 1000
GROUPS_MAX = 1000
GROUP_MEMBERS_MAX = 10_000
LOCK_SECONDS_MAX = 31 * 366 * 86_400
"""Nobody can shorten a lock, so a slip of the pen must not make one for centuries."""
LOCKED_SNAPSHOTS_MAX = 5000
LOCKED_NAMESPACES_MAX = 500
CERTIFICATE_LOOK_SECONDS = 3600.0
CERTIFICATE_WARN_DAYS = (30, 7, 1, 0)
CERTIFICATE_URGENT_DAYS = 7
