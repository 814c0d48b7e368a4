"""Bounds of identities, roles and logins, beside those in `core.limits`. Pure; anyone may import it."""

from __future__ import annotations

ROLES_MAX = 1000
GROUPS_MAX = 1000
GROUP_MEMBERS_MAX = 10_000
