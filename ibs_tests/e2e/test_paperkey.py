"""The keyfile and its passphrase are lost, a page lies in a safe: from the safe to the files, with a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibs.client.paper import source
from ibs.core import paperkey
from ibs_tests.support import paper
from ibs_tests.support.programs import Done, ServerProcess, finish, module_command, running_server
from ibs_tests.support.terminal import terminal
from ibs_tests.support.treecmp import tree_differences


@dataclass
class Host:
    """A host that has lost its keyfile; `page` is the PDF that was printed before."""

    server: ServerProcess
    folder: Path
    snapshot: str
    fingerprint: str
    checksum: str

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def page(self) -> bytes:
        return (self.folder / "page.pdf").read_bytes()

    def run(self, *arguments: str, passphrase: str, check: int = 0, **environment: str) -> Done:
        command = [*module_command("ironcore-backup-client"), *arguments]
        more = self.server.client_environment("main") | {"IBS_KEY_PASSPHRASE": passphrase} | environment
        return finish(command, more, check)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("paper")
    with running_server(folder / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(folder / "store"))
        made = Host(server, folder, "", "", "")
        made.tree.mkdir()
        (made.tree / "ledger").write_text("what must not be lost\n" * 20_000)
        key = folder / "web01.key"
        made.run("key", "create", str(key), "--comment", "web01", passphrase="forgotten")
        key.with_suffix(".pub").write_text(made.run("key", "show", "--public", str(key), passphrase="forgotten").out)
        server.admin("key", "register", str(key.with_suffix(".pub")), "--datastore", "main")
        options = ("--backup-id", "web01", "--keyfile", str(key), "-o", "json")
        made.snapshot = made.run("backup", f"t.tree:{made.tree}", *options, passphrase="forgotten").json()["snapshot"]
        target = ("--format", "pdf", "--output-file", str(folder / "page.pdf"), "-o", "json")
        printed = made.run("key", "paperkey", "--keyfile", str(key), *target, passphrase="forgotten").json()
        made.fingerprint, made.checksum = printed["fingerprint"], printed["checksum"]
        key.unlink()
        yield made


def restored(host: Host, source: Path, name: str) -> Path:
    """The keyfile that comes out of a source, under a new passphrase."""
    key = host.folder / f"{name}.key"
    command = ("key", "paperkey", "restore", str(source), "--keyfile", str(key), "-o", "json")
    said = host.run(*command, passphrase="a new one").json()
    assert (said["fingerprint"], said["checksum"]) == (host.fingerprint, host.checksum)
    assert key.stat().st_mode & 0o777 == 0o600
    return key


def brings_everything_back(host: Host, key: Path) -> None:
    back = host.folder / f"back-{key.stem}"
    host.run("restore", host.snapshot, "t.tree", str(back), "--keyfile", str(key), passphrase="a new one")
    assert tree_differences(str(host.tree), str(back)) == []


@paper.needs_renderers
def test_from_a_photo_of_the_page_to_the_files(host: Host) -> None:
    photo = host.folder / "photo.jpg"
    page = paper.pdf_as_png(host.page, host.folder)
    photo.write_bytes(paper.as_bytes(paper.photo(page, turned=11, tilted=0.03, noise=15, shade=50), "JPEG"))
    key = restored(host, photo, "photo")
    brings_everything_back(host, key)
    wrong = ("restore", host.snapshot, "t.tree", str(host.folder / "none"), "--keyfile", str(key))
    refused = host.run(*wrong, passphrase="forgotten", check=3)
    assert "does not open" in refused.err
    again = ("backup", f"t.tree:{host.tree}", "--backup-id", "web01", "--keyfile", str(key), "-o", "json")
    assert host.run(*again, passphrase="a new one").json()["chunks_sent"] == 0  # the key of before, to the last bit


@paper.needs_renderers
def test_from_typed_lines_to_the_files(host: Host) -> None:
    typed = host.folder / "typed.txt"
    typed.write_text(paper.pdf_words(host.page, host.folder))
    brings_everything_back(host, restored(host, typed, "typed"))


def test_a_scan_as_pdf(host: Host) -> None:
    brings_everything_back(host, restored(host, host.folder / "page.pdf", "scan"))


def test_a_paper_key_is_no_credential(host: Host) -> None:
    key = restored(host, host.folder / "page.pdf", "thief")
    command = ("restore", host.snapshot, "t.tree", str(host.folder / "loot"), "--keyfile", str(key))
    refused = host.run(*command, passphrase="a new one", check=3, IBS_SECRET="guessed")
    assert "the credential is not valid" in refused.err
    assert not (host.folder / "loot").exists()


def test_typing_the_lines_at_a_terminal(host: Host) -> None:
    key = host.folder / "hand.key"
    command = [*module_command("ironcore-backup-client"), "key", "paperkey", "restore", "-", "--keyfile", str(key)]
    lines = paperkey.lines(source.read(host.page))
    with terminal(command, host.server.client_environment("main")) as desk:
        desk.wait_for("line 01: ")
        desk.type(lines[0])
        desk.wait_for("line 02: ")
        digit = "0" if lines[1][5] != "0" else "1"
        desk.type(lines[1][:5] + digit + lines[1][6:])
        desk.wait_for(f"line 02: character 1 of group 1 is probably {lines[1][5]}, not {digit}")
        desk.wait_for("line 02: ")
        for number, line in enumerate(lines[1:], start=2):
            desk.type(line.removeprefix(f"{number:02d}").upper())
            desk.wait_for(f"line {number + 1:02d}: " if number < len(lines) else f"Passphrase for {key}: ")
        desk.type("a new one")
        desk.wait_for("The same again: ")
        desk.type("a new one")
        desk.wait_for(host.fingerprint)
        assert desk.end() == 0
        assert "a new one" not in desk.shown
    brings_everything_back(host, key)
