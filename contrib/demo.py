"""`make demo`: the main job from end to end, told in plain words.

Starts a real server with a datastore in a scratch folder, backs up a real folder and a disk image through the client
over TLS, backs up again to show deduplication, verifies, restores, compares byte for byte, and stops. Exit status 0
only when everything came back identical. Uses nothing but the two programs, as a user would.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
SERVER = str(BIN / "ironcore-backup")
CLIENT = str(BIN / "ironcore-backup-client")
BOLD, DIM, GREEN, RED, OFF = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)
IMAGE_BYTES = 64 << 20


class DemoError(Exception):
    """A step did not do what it should; the text says which."""


def say(text: str) -> None:
    print(f"{BOLD}{text}{OFF}", flush=True)


def run(environment: dict[str, str], *command: str, show: bool = True) -> str:
    """Run a program as a user would type it; show command and output; raise DemoError on failure."""
    shown = " ".join([Path(command[0]).name, *command[1:]])
    print(f"{DIM}$ {shown}{OFF}", flush=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if show and done.stdout.strip():
        print("  " + done.stdout.strip().replace("\n", "\n  "), flush=True)
    if done.returncode not in (0, 4):
        raise DemoError(f"`{shown}` ended with {done.returncode}:\n{done.stderr.strip()}")
    if done.stderr.strip() and done.returncode == 4:
        print("  " + done.stderr.strip().replace("\n", "\n  "), flush=True)
    return done.stdout


def make_sources(folder: Path) -> tuple[Path, Path]:
    """A real tree (copied from this machine's own documentation and settings) and a sparse disk image."""
    tree = folder / "tree"
    tree.mkdir()
    for place in ("/usr/share/doc", "/usr/share/zoneinfo", "/etc"):
        target = tree / Path(place).name
        target.mkdir()
        copied = 0
        for path in sorted(Path(place).rglob("*")):
            if copied >= 400:
                break
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            destination = target / path.relative_to(place)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, destination)
            copied += 1
    (tree / "a-link").symlink_to("etc/hostname")
    os.link(next(path for path in tree.rglob("*") if path.is_file()), tree / "second-name-of-a-file")
    (tree / "empty").touch()
    with (tree / "sparse").open("wb") as sparse:
        sparse.truncate(32 << 20)
        sparse.seek(20 << 20)
        sparse.write(os.urandom(1 << 20))
    image = folder / "disk.raw"
    with image.open("wb") as disk:
        disk.truncate(IMAGE_BYTES)
        for offset in (0, 9 << 20, 40 << 20):
            disk.seek(offset)
            disk.write(os.urandom(3 << 20))
    return tree, image


def start_server(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start the server on a free port and wait until it says where it is."""
    command = [
        SERVER,
        "serve",
        "--state-dir",
        str(folder / "state"),
        "--log-dir",
        str(folder / "log"),
        "--listen",
        "127.0.0.1:0",
    ]
    print(f"{DIM}$ ironcore-backup serve --state-dir … --log-dir … --listen 127.0.0.1:0 &{OFF}", flush=True)
    output = (folder / "server.out").open("w")
    server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 30
    while not (folder / "state" / "server.json").exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise DemoError("the server did not start:\n" + (folder / "server.out").read_text())
        time.sleep(0.05)
    return server


def digest(path: Path) -> str:
    return hashlib.file_digest(path.open("rb"), "sha256").hexdigest()


def compare(tree: Path, restored: Path) -> int:
    """Compare names, kinds, modes, times, contents; return the number of entries. Raises DemoError on a difference."""
    ours = {str(path.relative_to(tree)): path for path in tree.rglob("*")}
    theirs = {str(path.relative_to(restored)): path for path in restored.rglob("*")}
    if ours.keys() != theirs.keys():
        raise DemoError(f"names differ: {sorted(ours.keys() ^ theirs.keys())[:5]}")
    for name, path in ours.items():
        a, b = path.lstat(), theirs[name].lstat()
        if (a.st_mode, a.st_uid, a.st_gid, a.st_mtime_ns, a.st_nlink) != (
            b.st_mode,
            b.st_uid,
            b.st_gid,
            b.st_mtime_ns,
            b.st_nlink,
        ):
            raise DemoError(f"metadata of {name} differs")
        if path.is_symlink():
            if path.readlink() != theirs[name].readlink():
                raise DemoError(f"link {name} differs")
        elif path.is_file() and not filecmp.cmp(path, theirs[name], shallow=False):
            raise DemoError(f"content of {name} differs")
    return len(ours)


def demo(folder: Path) -> None:
    """The whole story."""
    environment = os.environ | {
        "IBS_STATE_DIR": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "COLUMNS": "140",
    }
    environment |= {"XDG_STATE_HOME": str(folder / "xdg-state"), "XDG_CACHE_HOME": str(folder / "cache")}
    tree, image = make_sources(folder)
    say("1. Start a server (its certificate and first token are made now)")
    server = start_server(folder, environment)
    try:
        facts = json.loads((folder / "state" / "server.json").read_text())
        print(f"  listening on {facts['address']}, certificate {facts['fingerprint'][:29]}…")
        run(environment, SERVER, "status", "--services")
        say("2. Make a datastore, and an identity that may only add backups to it and read its own")
        run(environment, SERVER, "datastore", "create", "ibs-primary", "--path", str(folder / "store"))
        run(environment, SERVER, "user", "create", "backup@ibs", show=False)
        made = run(environment, SERVER, "token", "create", "backup@ibs!demo", "--output", "json", show=False)
        token = json.loads(made)
        for who in ("backup@ibs", "backup@ibs!demo"):
            run(environment, SERVER, "acl", "grant", "/datastore/ibs-primary", "Datastore.Backup", who, show=False)
        host, _, port = facts["address"].rpartition(":")
        environment["IBS_REPOSITORY"] = f"{token['auth_id']}@{host}:{port}:ibs-primary"
        environment["IBS_SECRET"] = token["secret"]
        environment["IBS_FINGERPRINT"] = facts["fingerprint"]
        del environment["IBS_STATE_DIR"]
        admin = environment | {"IBS_STATE_DIR": str(folder / "state")}
        say("3. Back up a folder and a disk image through the client, over TLS")
        sources = (f"docs.tree:{tree}", f"disk.img:{image}", "--backup-id", "demo-host")
        run(environment, CLIENT, "backup", *sources)
        say("4. Change one file and back up again: only the difference travels")
        (tree / "changed").write_text("a new line\n")
        run(environment, CLIENT, "backup", *sources)
        run(environment, CLIENT, "snapshot", "list")
        say("5. Verify what the datastore holds, chunk by chunk")
        run(admin, SERVER, "verify", "start", "ibs-primary", "--notification-mode", "always")
        say("6. Restore both to a new place")
        run(environment, CLIENT, "restore", "host/demo-host", "docs.tree", str(folder / "restored"))
        run(environment, CLIENT, "restore", "host/demo-host", "disk.img", str(folder / "restored.raw"))
        say("7. Compare")
        entries = compare(tree, folder / "restored")
        print(f"  {entries} files, folders and links are identical: names, contents, modes, owners, times")
        if digest(image) != digest(folder / "restored.raw"):
            raise DemoError("the restored image differs")
        used = (folder / "restored.raw").stat().st_blocks * 512
        print(f"  the {IMAGE_BYTES >> 20} MiB image is identical and as sparse as before ({used >> 20} MiB on disk)")
        run(admin, SERVER, "datastore", "stats", "ibs-primary")
    finally:
        say("8. Stop the server")
        server.send_signal(signal.SIGTERM)
        if server.wait(timeout=60) != 0:
            print((folder / "server.out").read_text())


def main() -> int:
    """Run the demo in a scratch folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ibs-demo-") as name:
        try:
            demo(Path(name))
        except DemoError as error:
            print(f"{RED}demo failed: {error}{OFF}", file=sys.stderr)
            return 1
    print(f"{GREEN}{BOLD}Everything came back identical.{OFF} Next: README.md, and contrib/docs/ for the rest.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
