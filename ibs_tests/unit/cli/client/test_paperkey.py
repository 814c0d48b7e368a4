"""`key paperkey`: printed with the passphrase only, read back into the same key; mistakes are named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.cli.client import paperkey as command
from ibs.cli.client import root
from ibs.core import limits_keys, limits_paper, paperkey
from ibs.core.paperkey import PaperKey
from ibs.errors import RefusedError
from ibs.security import keyfile
from ibs_tests.support.fakeapi import invoke

ROOT = bytes.fromhex("3f1c2209aa5577ee" * 2) + bytes(range(16))
LINES = paperkey.lines(paperkey.encode(PaperKey("sign-only", ROOT)))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("IBS_KEYFILE", "IBS_KEY_PASSPHRASE", "IBS_KEY_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(limits_keys, "ARGON_OPERATIONS", 1)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "web01.key"
    command = ("key", "import", str(path), "--no-passphrase", "--mode", "sign-only", "--comment", "web01")
    assert invoke(root, *command, stdin=ROOT.hex()).exit_code == 0
    return path


def opened(path: Path, passphrase: str = "") -> keyfile.LoadedKey:
    return keyfile.open_key(keyfile.read(path), lambda: passphrase)


def test_there_and_back(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = invoke(root, "key", "paperkey", "--keyfile", str(key))
    assert printed.exit_code == 0, printed.output
    for line in LINES:
        assert line in printed.output
    assert "lock it away" in printed.stderr
    paper = tmp_path / "typed.txt"
    paper.write_text(printed.stdout)
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "new one")
    back = tmp_path / "back.key"
    done = invoke(root, "key", "paperkey", "restore", str(paper), "--keyfile", str(back), "--comment", "again")
    assert done.exit_code == 0, done.output
    restored = opened(back, "new one")
    assert (restored.keys.root, restored.mode, restored.comment) == (ROOT, "sign-only", "again")
    assert restored.has_passphrase
    assert keyfile.read(key).fingerprint in done.stdout
    assert paperkey.checksum(paperkey.encode(PaperKey("sign-only", ROOT))) in done.stdout
    for secret in (ROOT.hex(), ROOT[:4].hex(), "3f1c 2209"):
        assert secret not in done.output


def test_a_file_is_private_and_new(key: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    options = ("key", "paperkey", "--keyfile", str(key), "--output-file", str(page), "--output", "json")
    done = invoke(root, *options)
    assert page.stat().st_mode & 0o777 == 0o600
    facts = json.loads(done.stdout)
    assert facts["fingerprint"] == keyfile.read(key).fingerprint
    assert "page" not in facts
    assert LINES[2] not in done.output
    before = page.read_bytes()
    again = invoke(root, *options)
    assert again.exit_code == 3
    assert "exists already" in again.output
    assert page.read_bytes() == before
    shown = json.loads(invoke(root, "key", "paperkey", "--keyfile", str(key), "-o", "json").stdout)
    assert LINES[2] in shown["page"]
    lost = invoke(root, "key", "paperkey", "--keyfile", str(key), "--output-file", str(tmp_path / "no" / "page"))
    assert lost.exit_code == 2
    assert "cannot write" in lost.output


@pytest.mark.parametrize("page_format", ["svg", "pdf"])
def test_pages_as_files_come_back(key: Path, tmp_path: Path, page_format: str) -> None:
    page, back = tmp_path / f"page.{page_format}", tmp_path / "back.key"
    options = ("--keyfile", str(key), "--format", page_format)
    bare = invoke(root, "key", "paperkey", *options, "--output", "json")
    assert bare.exit_code == 2
    assert "--output-file" in bare.output
    assert invoke(root, "key", "paperkey", *options, "--output-file", str(page)).exit_code == 0
    piped = invoke(root, "key", "paperkey", *options)
    assert piped.stdout_bytes[:5] == page.read_bytes()[:5]
    done = invoke(root, "key", "paperkey", "restore", str(page), "--keyfile", str(back), "--no-passphrase")
    assert done.exit_code == 0, done.output
    assert opened(back).keys.root == ROOT
    assert opened(back).mode == "sign-only"


def test_a_print_is_checked_without_writing_anything(key: Path, tmp_path: Path) -> None:
    typed = tmp_path / "typed.txt"
    typed.write_text("\n".join(LINES))
    before = sorted(tmp_path.iterdir())
    checked = invoke(root, "key", "paperkey", "check", str(typed), "--against", str(key), "-o", "json")
    assert json.loads(checked.stdout) == {
        "fingerprint": keyfile.read(key).fingerprint,
        "checksum": paperkey.checksum(paperkey.encode(PaperKey("sign-only", ROOT))),
        "mode": "sign-only",
        "keyfile": str(key),
    }
    assert "the same key" in invoke(root, "key", "paperkey", "check", str(typed), "--against", str(key)).stdout
    other = tmp_path / "other.key"
    assert invoke(root, "key", "create", str(other), "--no-passphrase").exit_code == 0
    refused = invoke(root, "key", "paperkey", "check", str(typed), "--against", str(other))
    assert refused.exit_code == 3
    assert "fingerprint mismatch" in refused.output
    other.unlink()
    assert sorted(tmp_path.iterdir()) == before
    for line in LINES[:4]:
        assert line.split()[2] not in checked.output


def test_printing_needs_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sealed.key"
    monkeypatch.setenv("IBS_KEY_PASSPHRASE", "one")
    assert invoke(root, "key", "create", str(path)).exit_code == 0
    for given in ("", "two"):
        monkeypatch.setenv("IBS_KEY_PASSPHRASE", given)
        refused = invoke(root, "key", "paperkey", "--keyfile", str(path), "--output-file", str(tmp_path / "page"))
        assert refused.exit_code in (2, 3)
        assert not (tmp_path / "page").exists()
        assert "BEGIN" not in refused.output


def test_nothing_is_overwritten_and_nothing_half_is_written(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes()
    refused = invoke(root, "key", "paperkey", "restore", "-", "--keyfile", str(key), "--no-passphrase")
    assert refused.exit_code == 3
    assert "exists already" in refused.output
    assert key.read_bytes() == before
    back = tmp_path / "back.key"
    typed = "\n".join(LINES).replace("3f1c", "3f7c", 1)
    refused = invoke(root, "key", "paperkey", "restore", "-", "--keyfile", str(back), "--no-passphrase", stdin=typed)
    assert refused.exit_code == 1
    assert "line 01: character 3 of group 2 is probably 1, not 7" in refused.output
    assert not back.exists()
    refused = invoke(root, "key", "paperkey", "restore", "-", "--keyfile", str(back), stdin="\n".join(LINES))
    assert "no passphrase was given" in refused.output
    assert not back.exists()
    missing = invoke(root, "key", "paperkey", "restore", str(tmp_path / "none"), "--keyfile", str(back))
    assert missing.exit_code == 2
    assert "cannot be read" in missing.output


def test_typing_on_a_terminal_asks_again_for_the_line_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(
        [
            LINES[0],
            LINES[1].replace("3f1c", "3f7c"),
            LINES[2],
            "no idea",
            LINES[1].removeprefix("02"),
            *LINES[2:],
        ]
    )
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    assert paperkey.decode(command.papertyped.read(command.ask_lines(ask))).root == ROOT
    assert prompts == [f"line {number:02d}" for number in (1, 2, 2, 2, 2, 3, 4, 5)]
    told = capsys.readouterr().err
    assert "line 02: character 3 of group 2 is probably 1, not 7" in told
    assert "this is line 03; line 02 is asked for" in told
    assert "line 02 has 0 characters" in told


def test_typing_ends() -> None:
    def asks() -> Iterator[str]:
        yield from [""] * limits_paper.TYPED_TRIES_MAX

    answers = asks()
    with pytest.raises(RefusedError, match="not typed"):
        command.ask_lines(lambda prompt: next(answers))
