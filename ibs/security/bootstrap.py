"""The first administrator: `root@ibs` and its token in `STATE/root.token`, by which the local CLI finds its way in.

Called by `app` at each start, when the catalog is open and before the API listens. Whoever can read the state folder
is this server's administrator anyway; so a `root.token` that is missing or does not fit is made anew, which is also the
way back in for an administrator who has locked everybody out: delete the file, restart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ibs.core.access import ROOT, AuthId
from ibs.ports.access import AccessRecords, UserRecord
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.security.identities import Identities
from ibs.security.private import read_private, write_private
from ibs.security.tokens import secret_fits

FILE: Final = "root.token"
LOCAL_TOKEN: Final = AuthId(ROOT.user, ROOT.realm, "local")


async def ensure_root(
    state: Path, records: AccessRecords, identities: Identities, token_key: bytes, *, clock: Clock, pool: Pool
) -> Path:
    """`root@ibs` exists and `STATE/root.token` (0600) holds `root@ibs!local:SECRET`; return that path.

    A file that fits its token is kept, and with it whatever was made of the token's rights since. Raises FailedError.
    """
    if str(ROOT) not in [user.auth_id for user in await records.users()]:
        await records.add_user(UserRecord(str(ROOT), True, "the first administrator", clock.now_ns()))
    path = state / FILE
    content = await pool.disk(read_private, path)
    token = next((token for token in await records.tokens() if token.auth_id == str(LOCAL_TOKEN)), None)
    auth_id, _, secret = (content or b"").decode("utf-8", "replace").strip().partition(":")
    fits = secret_fits(token_key, str(LOCAL_TOKEN), secret, token.digest if token else None)
    if auth_id != str(LOCAL_TOKEN) or not fits:
        secret = await identities.reset_token(str(ROOT), LOCAL_TOKEN, "of this server's own command line")
        await pool.disk(write_private, path, f"{LOCAL_TOKEN}:{secret}\n".encode())
    return path
