"""The first administrator and the way back in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ibs.core.access import Privilege
from ibs.errors import NotAuthenticated
from ibs.runtime.pool import InlinePool
from ibs.security.bootstrap import ensure_root
from ibs_tests.support.identities import KEY, World


async def boot(world: World) -> str:
    """Start; return the line of root.token."""
    path: Path = await ensure_root(
        world.catalog.state, world.catalog.access, world.identities, KEY, clock=world.clock, pool=InlinePool()
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text("utf-8")


async def may_all(world: World, line: str) -> bool:
    principal = await world.checker.authenticate(f"Bearer {line.strip()}", "")
    return all(world.checker.allows(principal, privilege, "/") for privilege in Privilege)


async def test_the_first_start_makes_an_administrator(world: World) -> None:
    line = await boot(world)
    assert line.startswith("root@ibs!local:")
    assert line.count("\n") == 1
    assert await may_all(world, line)


async def test_it_is_kept_over_restarts(world: World) -> None:
    line = await boot(world)
    await world.identities.set_token("x@ibs", "root@ibs!local", enabled=False)
    assert await boot(world) == line
    with pytest.raises(NotAuthenticated, match="disabled"):
        await may_all(world, line)


@pytest.mark.parametrize("damage", ["missing", "garbage", "other"])
async def test_a_file_that_does_not_fit_is_made_anew(world: World, damage: str) -> None:
    line = await boot(world)
    await world.identities.revoke("x@ibs", "/", "Admin", "root@ibs!local")
    path = world.catalog.state / "root.token"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text({"garbage": "\xff", "other": "root@ibs!other:x\n"}[damage])
    fresh = await boot(world)
    assert fresh != line
    assert await may_all(world, fresh)
    with pytest.raises(NotAuthenticated):
        await world.checker.authenticate(f"Bearer {line.strip()}", "")


async def test_a_removed_token_comes_back(world: World) -> None:
    await boot(world)
    await world.identities.remove_token("x@ibs", "root@ibs!local")
    assert await may_all(world, await boot(world))
