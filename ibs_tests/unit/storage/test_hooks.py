from __future__ import annotations

import re
from pathlib import Path

from ibs.storage import hooks


def test_no_hook_lets_every_step_pass() -> None:
    assert hooks.no_hook("put.temp") is None


def test_the_list_of_points_is_the_list_of_points_in_the_code() -> None:
    assert hooks.__doc__ is not None
    listed = set(re.findall(r"^    ([a-z]+(?:\.[a-z]+)+) ", hooks.__doc__, re.MULTILINE))
    folder = Path(hooks.__file__).parent / "local"
    used = set()
    for path in folder.glob("*.py"):
        used |= set(re.findall(r"(?:hook|flush|_flush_or_condemn)\(\"([a-z.]+)\"\)", path.read_text("utf-8")))
    used |= {f"publish.manifest.{step}" for step in ("temp", "rename", "done")}  # see files.replace
    assert used == listed
