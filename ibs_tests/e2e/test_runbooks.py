"""The runbooks' own commands, as they are written, against real servers: a document that rots is no help at 3 a.m."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from ibs_tests.support.programs import ServerProcess, module_command, running_server

RUNBOOKS = Path(__file__).resolve().parents[2] / "contrib" / "docs" / "runbooks"


def blocks(runbook: str) -> dict[str, str]:
    """The shell blocks of a runbook by where they are run: the comment they begin with."""
    text = (RUNBOOKS / runbook).read_text("utf-8")
    found = re.findall(r"```sh\n# ([^\n]+)\n(.*?)```", text, re.DOTALL)
    assert len(found) == text.count("```sh"), "every block says where it is run"
    return dict(found)


def programs(folder: Path) -> str:
    """A folder for PATH with both programs."""
    folder.mkdir()
    for name in ("ironcore-backup", "ironcore-backup-client"):
        python, dash_c, code = module_command(name)
        script = folder / name
        script.write_text(f"#!{python}\n{code}\n" if dash_c == "-c" else "")
        script.chmod(0o755)
    return str(folder)


def sh(block: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def port_of(server: ServerProcess) -> str:
    return str(server.facts["address"]).rpartition(":")[2]


def reader(server: ServerProcess, store: str) -> str:
    """A secret of `far@ibs!t`, which may read the store."""
    server.admin("user", "create", "far@ibs")
    made = server.admin("token", "create", "far@ibs!t", "--output", "json").json()
    for who in ("far@ibs", "far@ibs!t"):
        server.admin("acl", "grant", f"/datastore/{store}", "Datastore.Reader", who)
    return str(made["secret"])


def test_site_loss(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin") + ":" + os.environ["PATH"]
    tree = tmp_path / "data"
    tree.mkdir()
    for number in range(8):
        (tree / f"f{number}").write_bytes(os.urandom(300_000))
    steps = blocks("site-loss.md")
    with running_server(tmp_path / "there") as there:
        there.admin("datastore", "create", "replica", "--path", str(tmp_path / "replica"))
        with running_server(tmp_path / "lost") as lost:
            lost.admin("datastore", "create", "main", "--path", str(tmp_path / "main"))
            for host in ("web01", "db02"):
                lost.client("main", "backup", f"data.tree:{tree}", "--backup-id", host)
            (tmp_path / "secret").write_text(reader(lost, "main"))
            there.admin(
                *("remote", "create", "--name", "home", "--host", "127.0.0.1", "--port", port_of(lost)),
                *("--auth-id", "far@ibs!t", "--fingerprint", str(lost.facts["fingerprint"])),
                *("--secret-file", str(tmp_path / "secret")),
            )
            there.admin("sync", "pull", "--remote", "home", "--source", "main", "--store", "replica")
        # The building is gone.
        with running_server(tmp_path / "new") as new:
            other = there.environment | {"PATH": path, "IBS_STATE_DIR": str(there.state)}
            sh(steps["on the other site"], tmp_path, other)
            (tmp_path / "rescue.secret").write_text(json.loads((tmp_path / "rescue.json").read_text())["secret"])
            signer = there.admin("remote", "show", "home", "--output", "json").json()["signer"]
            mine = new.environment | {
                "PATH": path,
                "IBS_STATE_DIR": str(new.state),
                "OTHER": "127.0.0.1",
                "OTHER_PORT": port_of(there),
                "OTHER_FINGERPRINT": str(there.facts["fingerprint"]),
                "LOST_SIGNER": signer,
                "STORE": str(tmp_path / "home-again"),
            }
            said = sh(steps["on the new server"], tmp_path, mine)
            assert "restore it on any host" in said
            assert (
                sorted(re.findall(r"^host/\w+", said, re.MULTILINE))[-2:] == ["host/db02", "host/web01"]
                or "db02" in said
            )
            sh(steps["on the new server, later"], tmp_path, mine)
            assert "OK" in sh(steps["on the new server, before anybody relies on it"], tmp_path, mine)
            host = new.client_environment("main") | {"PATH": path, "TARGET": str(tmp_path / "back")}
            assert "host/web01" in sh(steps["on the host"], tmp_path, host)
    subprocess.run(["diff", "-r", "--no-dereference", str(tree), str(tmp_path / "back")], check=True)


def test_without_naming_the_lost_key_its_plain_snapshots_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_bytes(b"x" * 1000)
    with running_server(tmp_path / "there") as there, running_server(tmp_path / "new") as new:
        with running_server(tmp_path / "lost") as lost:
            there.admin("datastore", "create", "replica", "--path", str(tmp_path / "replica"))
            lost.admin("datastore", "create", "main", "--path", str(tmp_path / "main"))
            lost.client("main", "backup", f"data.tree:{tmp_path / 'data'}", "--backup-id", "web01")
            for server, to, store in ((there, lost, "main"), (new, there, "replica")):
                (tmp_path / "secret").write_text(reader(to, store))
                server.admin(
                    *("remote", "create", "--name", "far", "--host", "127.0.0.1", "--port", port_of(to)),
                    *("--auth-id", "far@ibs!t", "--fingerprint", str(to.facts["fingerprint"])),
                    *("--secret-file", str(tmp_path / "secret")),
                )
            there.admin("sync", "pull", "--remote", "far", "--source", "main", "--store", "replica")
        new.admin("datastore", "create", "main", "--path", str(tmp_path / "again"))
        bring = ("snapshot", "restore-from", "far:replica", "host/web01", "--store", "main")
        refused = new.admin(*bring, check=None)
        assert refused.status != 0
        assert "signed by a server that is not remote far" in refused.out + refused.err
        assert "--trust-signer" in refused.out + refused.err
        wrong = new.admin(*bring, "--trust-signer", "ab" * 32, check=None)
        assert "signed by a server that is not remote far" in wrong.out + wrong.err
        assert "signing key" in new.admin(*bring, "--trust-signer", "zz", check=2).err
        missing = new.admin("snapshot", "restore-from", "far:replica", "host/nobody", "--store", "main", check=None)
        assert "far:replica has no snapshot host/nobody" in missing.out + missing.err
        signer = there.admin("remote", "show", "far", "--output", "json").json()["signer"]
        new.admin(*bring, "--trust-signer", signer)
        assert new.admin("snapshot", "list", "main", "--output", "json").json()[0]["brought_from"] == "far"
