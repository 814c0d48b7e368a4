"""Symptom S27: a paper key is rejected; the bad line is named, and QR code and text are shown to be the same key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs_tests.support import paper
from ibs_tests.support.programs import Done, clean_environment, finish, module_command


@dataclass
class Desk:
    """A host without a server: keys on paper need none."""

    folder: Path

    def run(self, *arguments: str, check: int = 0) -> Done:
        return finish([*module_command("ironcore-backup-client"), *arguments], clean_environment(self.folder), check)

    def printed(self, name: str, page_format: str) -> Path:
        page = self.folder / f"{name}.{page_format}"
        options = ("--format", page_format, "--output-file", str(page))
        self.run("key", "paperkey", "--keyfile", str(self.folder / f"{name}.key"), *options)
        return page

    def lines(self, name: str) -> list[str]:
        page = self.run("key", "paperkey", "--keyfile", str(self.folder / f"{name}.key")).out
        return page.split("PAPER KEY-----\n")[1].splitlines()[:5]

    def rejected(self, lines: list[str]) -> str:
        typed, key = self.folder / "typed", self.folder / "back.key"
        typed.write_text("\n".join(lines))
        refused = self.run("key", "paperkey", "restore", str(typed), "--keyfile", str(key), "--no-passphrase", check=1)
        assert not key.exists()
        return refused.err


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    for name in ("web01", "db01"):
        made.run("key", "create", str(tmp_path / f"{name}.key"), "--no-passphrase", "--comment", name)
    return made


def other(character: str) -> str:
    return "7" if character != "7" else "1"


def test_s27_the_bad_line_is_named_and_its_cure_told(desk: Desk) -> None:
    lines = desk.lines("web01")
    right, place = lines[2], 12  # group 2, character 3
    wrong = right[:place] + other(right[place]) + right[place + 1 :]
    said = desk.rejected([*lines[:2], wrong, *lines[3:]])
    assert f"line 03: character 3 of group 2 is probably {right[place]}, not {wrong[place]}" in said
    assert "with these corrections the whole checksum holds" in said
    assert "line 04 is missing" in desk.rejected([*lines[:3], lines[4]])
    assert "the whole checksum of the paper key does not hold" in desk.rejected([*lines[:3], *desk.lines("db01")[3:]])
    typed = desk.folder / "typed"
    typed.write_text("\n".join(lines))
    desk.run("key", "paperkey", "restore", str(typed), "--keyfile", str(desk.folder / "back.key"), "--no-passphrase")


@paper.needs_renderers
def test_s27_a_bad_scan_is_taken_again_and_code_and_text_are_the_same_key(desk: Desk) -> None:
    page = paper.pdf_as_png(desk.printed("web01", "pdf").read_bytes(), desk.folder)
    scan = desk.folder / "scan.png"
    scan.write_bytes(paper.as_bytes(paper.photo(page, noise=140, blur=6)))
    refused = desk.run("key", "paperkey", "check", str(scan), check=1)
    assert "no QR code is found" in refused.err
    assert "take another picture" in refused.err
    scan.write_bytes(paper.as_bytes(paper.photo(page, turned=4, shade=40)))
    against = ("--against", str(desk.folder / "web01.key"), "-o", "json")
    by_code = desk.run("key", "paperkey", "check", str(scan), *against).json()
    typed = desk.folder / "typed"
    typed.write_text("\n".join(desk.lines("web01")))
    by_text = desk.run("key", "paperkey", "check", str(typed), *against).json()
    assert by_code == by_text
    assert by_code["checksum"] in paper.pdf_words((desk.folder / "web01.pdf").read_bytes(), desk.folder)
    wrong = desk.run("key", "paperkey", "check", str(typed), "--against", str(desk.folder / "db01.key"), check=3)
    assert "fingerprint mismatch" in wrong.err
