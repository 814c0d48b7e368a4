"""Limits of data keys: their files, their register and the policies."""

from __future__ import annotations

from typing import Final

KEY_TEXT_CHARS_MAX: Final = 256
"""Of a fingerprint, a comment or a signature in a file."""
PUBLIC_KEY_BYTES_MAX: Final = 4096
SIGNATURE_BYTES: Final = 64
"""Of an Ed25519 signature."""
REGISTERED_KEYS_MAX: Final = 10_000
"""Rows: a key in each of its scopes."""
KEY_POLICIES_MAX: Final = 10_000
KEY_SNAPSHOTS_SAID: Final = 5
"""Snapshots named in a refusal's sentence."""
KEY_SNAPSHOTS_LISTED: Final = 1000
"""Snapshots named when a key is shown or retired; all of them are counted."""
