"""Any tree that hypothesis can think of: what is backed up is what was there, again and again, after any change."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ibs.core import limits
from ibs_tests.support.backups import MemoryServer, back_up, differences

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..", b".ibsexclude")
)
leaves = st.one_of(
    st.tuples(st.just("file"), st.integers(0, 40), st.integers(0, 50_000)),
    st.tuples(st.just("link"), names, st.just(0)),
    st.tuples(st.just("fifo"), st.just(0), st.just(0)),
    st.tuples(st.just("hard"), st.just(0), st.just(0)),
    st.tuples(st.just("sparse"), st.integers(1, 40), st.integers(1, 3)),
)
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=6),
    lambda inner: st.dictionaries(names, st.one_of(leaves, inner), max_size=6),
    max_leaves=25,
)


def make(folder: bytes, tree: dict[bytes, Any], first: list[bytes]) -> None:
    """Make `tree` out of what is in `folder`, leaving alone what is already so."""
    os.makedirs(folder, exist_ok=True)
    for name, what in tree.items():
        path = os.path.join(folder, name)
        if isinstance(what, dict):
            make(path, what, first)
        elif what[0] == "file":
            with open(path, "wb") as file:
                file.write(bytes([what[1]]) * what[2])
            first.append(path)
        elif what[0] == "link":
            os.symlink(what[1], path)
        elif what[0] == "fifo":
            os.mkfifo(path)
        elif what[0] == "hard" and first:
            os.link(first[0], path)
        elif what[0] == "sparse":
            with open(path, "wb") as file:
                file.truncate(what[1] * 50_000)
                file.seek(what[1] * 20_000)
                file.write(b"s" * what[2])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many metadata blocks even for small trees."""
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 300)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 600)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MIN", 2)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MAX", 4)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example is several backups: shrinking takes minutes
)
@given(trees, trees, st.data())
def test_round_trip_and_every_change(before: dict[bytes, Any], after: dict[bytes, Any], data: st.DataObject) -> None:
    root = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    try:
        make(os.fsencode(root), {b"kept": before}, [])
        server = MemoryServer()
        trio.run(back_up, server, root)
        assert differences(server, root) == []
        make(os.fsencode(root), {b"added": after}, [])
        _touch_some(os.fsencode(root), data)
        trio.run(back_up, server, root)
        assert differences(server, root) == []
        _, transport = trio.run(back_up, server, root)
        assert transport.sent == []
        assert server.snapshots[-1].indexes == server.snapshots[-2].indexes
        shutil.rmtree(root / "kept")
        trio.run(back_up, server, root)
        assert differences(server, root) == []
    finally:
        shutil.rmtree(root)


def _touch_some(root: bytes, data: st.DataObject) -> None:
    files = sorted(
        os.path.join(folder, name)
        for folder, _, found in os.walk(root)
        for name in found
        if os.path.isfile(os.path.join(folder, name)) and not os.path.islink(os.path.join(folder, name))
    )
    for path in data.draw(st.lists(st.sampled_from(files), max_size=5, unique=True)) if files else []:
        if data.draw(st.booleans()):
            os.unlink(path)
        else:
            with open(path, "ab") as file:
                file.write(b"more")
