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
KEY_SEEN_SECONDS: Final = 3600
"""How exactly it is known when a key was last used: not every backup writes to the state."""
KEY_POLICIES_MAX: Final = 10_000
KEY_SNAPSHOTS_SAID: Final = 5
"""Snapshots named in a refusal's sentence."""
KEY_SNAPSHOTS_LISTED: Final = 1000
"""Snapshots named when a key is shown or retired; all of them are counted."""

MASTER_BITS: Final = 4096
MASTER_BITS_MIN: Final = 3072
"""Of a public half that somebody hands over."""
MASTER_FILE_BYTES_MAX: Final = 32 * 1024
MASTER_TEXT_CHARS_MAX: Final = 16 * 1024
"""Of a field that holds a key or a ciphertext."""
KEYFILE_BYTES_MAX: Final = 16 * 1024
PASSPHRASE_BYTES_MAX: Final = 1024
ARGON_OPERATIONS: Final = 3
ARGON_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Of new keyfiles (RFC 9106 asks for 64 MiB with 3 passes where memory is short)."""
ARGON_OPERATIONS_MAX: Final = 16
ARGON_MEMORY_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Of keyfiles that are opened: a hostile one must not take the host down."""
ARGON_SALT_BYTES: Final = 16
SEAL_NONCE_BYTES: Final = 12
SEAL_TAG_BYTES: Final = 16
"""Of AES-256-GCM."""
