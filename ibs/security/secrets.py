"""The server's own secrets: the key under which tokens are digested and stored secrets sealed, and the signing key.

Used by `app` (which loads them once), `security` and, for the signing seed, `engine`. `STATE/server.key` and
`STATE/signing.key` (0600) are made at the first start. They are never replaced on their own: a lost server key makes
every token and sealed secret useless, so a state that knows another key refuses to start instead of failing later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from blake3 import blake3
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from ibs.errors import ConflictError, FailedError
from ibs.security.private import read_private, write_private

KEY_FILE: Final = "server.key"
SIGNING_FILE: Final = "signing.key"
_KEY_BYTES: Final = 32
_CONTEXT: Final = "ironcore-backup server key v1 "
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)


class KeptValues(Protocol):
    """What is asked of the state: `catalog.settings.Settings`."""

    async def ensure(self, name: str, value: str) -> str:
        """The value of `name`; it becomes `value` if it had none."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSecrets:
    """`signing_seed` (32 bytes) signs manifests for clients without a key; `signer` is its public half.

    `token_key` digests the secrets of tokens; `key_id` names the server key without telling it.
    """

    root: bytes = field(repr=False)
    token_key: bytes = field(repr=False)
    signing_seed: bytes = field(repr=False)
    signer: bytes
    key_id: str

    def seal(self, purpose: str, plain: bytes) -> bytes:
        """`plain` encrypted and authenticated; only `unseal` with the same `purpose` (lower case, dashes) opens it."""
        return bytes(SecretBox(self._key_for(purpose)).encrypt(plain))

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """The inverse of `seal`. Raises FailedError."""
        try:
            return SecretBox(self._key_for(purpose)).decrypt(sealed)
        except (CryptoError, ValueError, TypeError) as error:
            hint = f"bring back the {KEY_FILE} that belongs to this state, or set the secret again"
            raise FailedError(f"a stored secret ({purpose}) cannot be opened", hint=hint) from error

    def _key_for(self, purpose: str) -> bytes:
        if not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"purpose {purpose!r} is not lower case with dashes")
        return _derive(self.root, f"seal {purpose}")


def load_secrets(state: Path, *, entropy: Callable[[int], bytes] = os.urandom) -> ServerSecrets:
    """The secrets in the folder `state`, made where missing. Blocks. Raises FailedError for a damaged file."""
    root = _load_key(state / KEY_FILE, "ibs-server-key-1", entropy)
    seed = _load_key(state / SIGNING_FILE, "ibs-signing-key-1", entropy)
    return ServerSecrets(
        root=root,
        token_key=_derive(root, "tokens"),
        signing_seed=seed,
        signer=SigningKey(seed).verify_key.encode(),
        key_id=_derive(root, "id")[:8].hex(":"),
    )


async def check_secrets(secrets: ServerSecrets, kept: KeptValues) -> None:
    """The state and its server key belong together (noted when they first meet). Raises ConflictError."""
    known = await kept.ensure("server-key-id", secrets.key_id)
    if known != secrets.key_id:
        raise ConflictError(
            f"{KEY_FILE} is not the one of this state: its id is {secrets.key_id}, the state knows {known}",
            hint=f"bring {KEY_FILE} back from the same backup as state.db",
        )


def _derive(root: bytes, purpose: str) -> bytes:
    return blake3(root, derive_key_context=_CONTEXT + purpose).digest()


def _load_key(path: Path, label: str, entropy: Callable[[int], bytes]) -> bytes:
    content = read_private(path)
    if content is None:
        key = entropy(_KEY_BYTES)
        write_private(path, f"{label}:{key.hex()}\n".encode())
        return key
    found = re.fullmatch(rb"([a-z0-9-]+):([0-9a-f]{64})\n?", content)
    if found is None or found[1].decode() != label:
        raise FailedError(f"{path} is damaged", hint="bring it back from a backup of the state folder")
    return bytes.fromhex(found[2].decode())
