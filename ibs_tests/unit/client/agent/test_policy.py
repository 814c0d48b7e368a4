"""What a host lets a server have: nothing unless it says so, and never more than it said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.client.agent.policy import Policy, load_policy, policy_file
from ibs.errors import RefusedError, SourceUnreadable, UsageError
from ibs.wire.system import BackupRun


def run(*paths: Path | str, **more: str) -> BackupRun:
    sources = [f"a{number}.tree:{path}" for number, path in enumerate(paths)]
    return BackupRun(store="main", sources=sources, **more)  # type: ignore[arg-type]


def config(folder: Path, text: str) -> Policy:
    path = folder / "agent.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_policy(path)


def test_nothing_without_a_word(tmp_path: Path) -> None:
    policy = load_policy(tmp_path / "none.toml")
    with pytest.raises(RefusedError, match="is not among the paths that may be backed up") as refused:
        policy.allow(run(tmp_path))
    assert str(tmp_path / "none.toml") in refused.value.hint
    assert load_policy(tmp_path / "none.toml", allow_all=True).allow(run(tmp_path)) == (("a0.tree", str(tmp_path)),)


def test_what_is_below_an_allowed_path_and_nothing_beside_it(tmp_path: Path) -> None:
    for name in ("srv/data", "srv-old", "etc"):
        (tmp_path / name).mkdir(parents=True)
    policy = config(tmp_path, f'paths = ["{tmp_path}/srv"]')
    assert policy.allow(run(tmp_path / "srv/data")) == (("a0.tree", f"{tmp_path}/srv/data"),)
    assert policy.allow(run(tmp_path / "srv/."))[0][1] == f"{tmp_path}/srv"
    for outside in ("srv-old", "etc", "srv/../etc", "srv/data/../../etc", ".", "srv/missing"):
        with pytest.raises(RefusedError):
            policy.allow(run(tmp_path / "srv", f"{tmp_path}/{outside}"))


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "srv/way-out").symlink_to(tmp_path / "etc")
    (tmp_path / "alias").symlink_to(tmp_path / "srv")
    policy = config(tmp_path, f'paths = ["{tmp_path}/alias"]')
    assert policy.allow(run(tmp_path / "srv"))[0][1] == f"{tmp_path}/srv"
    with pytest.raises(RefusedError):
        policy.allow(run(tmp_path / "srv/way-out"))


def test_all_of_it_and_what_is_not_there(tmp_path: Path) -> None:
    policy = config(tmp_path, "allow_all = true")
    assert policy.allow(run(tmp_path))
    with pytest.raises(SourceUnreadable, match="No such file"):
        policy.allow(run(tmp_path / "missing"))


@pytest.mark.parametrize(
    "text",
    ["paths = 7", "path = []", "paths = ['etc']", "allow_all = ", "hooks = ['../x']", "keyfile = 'a.key'"],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        config(tmp_path, text)


def test_the_hosts_key(tmp_path: Path) -> None:
    assert config(tmp_path, 'keyfile = "/etc/web01.key"').keyfile == "/etc/web01.key"
    assert config(tmp_path, "").keyfile == ""


def test_a_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("allow_all = true")
    path.chmod(0o666)
    with pytest.raises(RefusedError, match="may be changed by others"):
        load_policy(path)


def test_hooks_by_name_only(tmp_path: Path) -> None:
    hooks = tmp_path / "hooks.d"
    hooks.mkdir()
    for name, mode in (("good", 0o755), ("open", 0o777), ("dull", 0o644), ("other", 0o755)):
        (hooks / name).write_text("#!/bin/sh\n")
        (hooks / name).chmod(mode)
    policy = config(tmp_path, f'paths = ["{tmp_path}"]\nhooks = ["good", "open", "dull", "gone"]')
    assert policy.hook("good") == hooks / "good"
    assert policy.allow(run(tmp_path, pre_hook="good"))
    for name, error in (("other", RefusedError), ("open", RefusedError), ("dull", RefusedError), ("gone", UsageError)):
        with pytest.raises(error):
            policy.allow(run(tmp_path, post_hook=name))
    with pytest.raises(UsageError):
        policy.hook("../agent.toml")


def test_where_it_is(tmp_path: Path) -> None:
    assert policy_file(tmp_path, {}) == tmp_path
    assert policy_file(None, {"IBS_AGENT_CONFIG": "/x/y"}) == Path("/x/y")
    default = policy_file(None, {})
    assert default.name == "agent.toml"
    assert os.geteuid() != 0 or default == Path("/etc/ironcore-backup/agent.toml")
