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
CERTIFICATE_RETRY_SECONDS = 60.0
CERTIFICATE_NEXT_SECONDS_MAX = 366 * 86_400.0
CERTIFICATE_WARN_DAYS = (30, 7, 1, 0)
CERTIFICATE_URGENT_DAYS = 7
LOGIN_FREE_FAILURES = 5
"""Wrong passwords of a user, or from an address, before waiting begins."""
LOGIN_WAIT_SECONDS_MAX = 900.0
LOGIN_FORGET_SECONDS = 3600.0
LOGIN_SESSION_SECONDS = 12 * 3600
LOGIN_SESSIONS_PER_USER_MAX = 20
PASSWORD_CHARS_MIN = 12
PASSWORD_CHARS_MAX = 1024
PASSWORD_OPERATIONS = 3
PASSWORD_MEMORY_BYTES = 64 * 1024 * 1024
RECOVERY_CODES = 10
REALMS_MAX = 32
REALM_TEXT_CHARS_MAX = 1024
REALM_CA_CHARS_MAX = 1 << 16
REALM_CONNECT_SECONDS = 5
REALM_ANSWER_SECONDS = 10
REALM_LOGINS_AT_ONCE = 8
"""Logins that wait for a realm's answer; a stranger must not keep every thread busy with them."""
REALM_SECONDS_MAX = 20.0
