"""`remote`: what is sent, and what is shown; the secret is never an argument."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.cli.admin import root
from ibs.wire.remotes import RemoteSet, RemoteStore, RemoteTest, RemoteView
from ibs_tests.support.fakeapi import install, invoke

ROW = RemoteView(name="site-b", host="b.example", port=8007, auth_id="s@ibs!t", fingerprint="ab:" * 31 + "ab")


def test_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IBS_REMOTE_SECRET", raising=False)
    api = install(monkeypatch, tmp_path)
    api.answers["GET", "/remotes"] = [ROW]
    api.answers["GET", "/remotes/site-b"] = ROW
    api.answers["POST", "/remotes"] = ROW
    api.answers["POST", "/remotes/site-b"] = ROW
    api.answers["DELETE", "/remotes/site-b"] = None
    api.answers["POST", "/remotes/site-b/test"] = RemoteTest(
        name="site-b", auth_id="s@ibs!t", signer="cd", version="1", milliseconds=7,
        datastores=[RemoteStore(name="main", status="online")],
    )  # fmt: skip
    words = ("--name", "site-b", "--host", "b.example", "--auth-id", "s@ibs!t", "--fingerprint", ROW.fingerprint)
    refused = invoke(root, "remote", "create", *words)
    assert refused.exit_code == 2
    assert "no secret was given" in refused.output
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    made = invoke(root, "remote", "create", *words, "--secret-file", str(secret))
    assert "remote site-b is s@ibs!t on b.example:8007" in made.output
    assert "remote test site-b" in made.output
    sent = api.asked[-1][2]
    assert isinstance(sent, RemoteSet)
    assert (sent.secret, sent.port) == ("hush", 8007)
    assert "never" in invoke(root, "remote", "list").output
    assert ROW.fingerprint in invoke(root, "remote", "show", "site-b").output
    assert invoke(root, "remote", "update", "--name", "site-b", "--fingerprint", "cd").exit_code == 0
    assert api.asked[-1][2] == RemoteSet(name="site-b", fingerprint="cd")
    tested = invoke(root, "remote", "test", "site-b").output
    assert "answers s@ibs!t in 7 ms" in tested
    assert "online" in tested
    assert '"signer": "cd"' in invoke(root, "remote", "test", "site-b", "--output", "json").output
    assert "is forgotten" in invoke(root, "remote", "remove", "site-b").output
    monkeypatch.setenv("IBS_REMOTE_SECRET", "said")
    invoke(root, "remote", "update", "--name", "site-b")
    assert api.asked[-1][2] == RemoteSet(name="site-b", secret="said")
    missing = invoke(root, "remote", "update", "--name", "site-b", "--secret-file", str(tmp_path / "none"))
    assert missing.exit_code == 2
