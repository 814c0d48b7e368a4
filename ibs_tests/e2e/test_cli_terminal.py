"""The command line against a real server: listings in both forms, exit statuses, signals, pipes, odd terminals."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, finish, module_command, running_server
from ibs_tests.support.trees import many_files

LISTINGS = (
    ("status",),
    ("status", "--services"),
    ("datastore", "list"),
    ("datastore", "stats", "main"),
    ("datastore", "probe", "main"),
    ("snapshot", "list", "main"),
    ("task", "list"),
    ("worker", "status"),
    ("verify", "status"),
    ("user", "list"),
    ("token", "list"),
    ("acl", "list"),
    ("notification", "inbox"),
)
CLIENT_LISTINGS = (
    ("snapshot", "list"),
    ("snapshot", "show", "host/x"),
    ("snapshot", "files", "host/x", "t.tree"),
    ("diff", "host/x", "t.tree", "host/x"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("cli")
    many_files(folder / "tree", seed=1, count=30)
    with running_server(folder, config="fault_injection = true\n") as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "main"), "--comment", "ü [red] :x: \x1b[2J")
        running.client("main", "backup", f"t.tree:{folder / 'tree'}", "--backup-id", "x")
        yield running


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
def test_listings(server: ServerProcess, words: tuple[str, ...]) -> None:
    assert server.admin(*words).out.strip()
    assert isinstance(server.admin(*words, "--output", "json").json(), dict | list)


@pytest.mark.parametrize("words", CLIENT_LISTINGS, ids=" ".join)
def test_client_listings(server: ServerProcess, words: tuple[str, ...]) -> None:
    server.client("main", *words)
    assert isinstance(server.client("main", *words, "-o", "json").json(), dict | list)


def test_a_upid_can_be_copied_from_the_list(server: ServerProcess) -> None:
    upid = next(word for word in server.admin("task", "list").out.split() if word.startswith("UPID:"))
    assert server.admin("task", "show", upid, "-o", "json").json()["upid"] == upid
    assert "TASK OK" in server.admin("task", "log", upid).out


@pytest.mark.parametrize(
    ("words", "status", "start"),
    [
        (("datastore", "list", "--nope"), 2, "error: No such option"),
        (("datastore", "probe"), 2, "error: Missing argument"),
        (("datastore", "create", "bad name", "--path", "/x"), 2, "error: "),
        (("datastore", "create", "main", "--path", "/nowhere/at/all"), 3, "error: "),
        (("datastore", "stats", "nothing"), 5, "error: "),
        (("task", "show", "UPID:none"), 5, "error: no task"),
        (("acl", "grant", "/datastore/main", "Nobody", "a@ibs"), 2, "error: role 'Nobody'"),
    ],
)
def test_mistakes(server: ServerProcess, words: tuple[str, ...], status: int, start: str) -> None:
    done = server.admin(*words, check=status)
    assert done.err.startswith(start), done.err
    assert "\nhint: " in done.err
    assert "Traceback" not in done.err
    told = json.loads(server.admin(*words, "--output", "json", check=status).err)
    assert told["message"] in done.err


def test_refused_unreachable_and_not_pinned(server: ServerProcess) -> None:
    token = server.make_token("weak")
    remote = {"IBS_STATE_DIR": "", "IBS_SERVER": server.facts["address"], "IBS_TOKEN": token}
    pinned = {"IBS_FINGERPRINT": server.facts["fingerprint"]}
    refused = server.admin("status", check=3, **remote, **pinned)
    assert refused.err.startswith("error: not authorised: weak@ibs!t lacks role Audit on /system\nhint: ")
    assert server.admin("task", "list", "-o", "json", **remote, **pinned).json() == []
    unknown = server.admin("status", check=2, **remote)
    assert "fingerprint" in unknown.err
    wrong = server.admin("status", check=3, **remote, IBS_FINGERPRINT=":".join(["ab"] * 32))
    assert "TLS fingerprint mismatch" in wrong.err
    bad = server.admin("status", check=3, **remote | {"IBS_TOKEN": "weak@ibs!t:wrong"}, **pinned)
    assert "the credential is not valid" in bad.err
    gone = server.admin("status", check=6, **remote | {"IBS_SERVER": "127.0.0.1:1"}, **pinned)
    assert gone.err.startswith("error: ")


def test_a_pipe_that_closes_early_is_no_failure_to_speak_of(server: ServerProcess) -> None:
    command = module_command("ironcore-backup")
    environment = server.environment | {"IBS_STATE_DIR": str(server.state)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "task", "list"], env=environment, **pipes) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        said = program.stderr.read()
    assert program.returncode in (0, 1)
    assert said == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_terminal_can_show_every_name(server: ServerProcess, encoding: str, tmp_path: Path) -> None:
    for name in ("plain", "ünïcödé", "日本", "\x1b[2J", "[red]x"):
        (tmp_path / name).write_text("x")
    (tmp_path / "caf\udce9").write_text("x")
    command = module_command("ironcore-backup-client")
    environment = server.client_environment("main") | {"PYTHONIOENCODING": encoding}
    finish([*command, "backup", f"odd.tree:{tmp_path}", "--backup-id", "odd"], environment, 0)
    done = subprocess.run(
        [*command, "snapshot", "files", "host/odd", "odd.tree"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    text = done.stdout.decode(encoding)
    for shown in ("plain", "\\x1b[2J", "[red]x", "caf\\xe9"):
        assert shown in text
    assert ("ünïcödé" in text) == (encoding != "ascii")


class OpenTask:
    """A backup's session that somebody opened over the API: its task runs until it is given up."""

    def __init__(self, server: ServerProcess, group: str) -> None:
        headers = {"Authorization": f"Bearer {server.token}"}
        context = pinned_context(server.facts["fingerprint"])
        self._http = httpx.Client(
            base_url=f"{server.url}/api/v1", headers=headers, verify=context, trust_env=False, timeout=30
        )
        body = {"store": "main", "group": group, "archives": ["t.tree"]}
        opened = self.post("/datastores/main/sessions", body)
        self._session, self.upid = opened["session_id"], opened["upid"]

    def post(self, path: str, body: Any = None) -> Any:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def say(self, text: str) -> None:
        self.post(f"/sessions/{self._session}/report", {"lines": [{"level": "info", "text": text}]})

    def give_up(self) -> None:
        assert self._http.delete(f"/sessions/{self._session}").is_success

    def kill_api(self) -> None:
        """There is no command for that, on purpose. Returns when it is back."""
        restarts = self._restarts()
        with contextlib.suppress(httpx.TransportError):
            self._http.post("/services/api/fault")
        while self._restarts() == restarts:
            pass

    def _restarts(self) -> int:
        while True:
            with contextlib.suppress(httpx.TransportError):
                rows = self._http.get("/status").json()["services"]
                return int(next(row["restarts"] for row in rows if row["role"] == "api"))

    def close(self) -> None:
        self._http.close()


class Following:
    """`task log UPID --follow` as it runs."""

    def __init__(self, server: ServerProcess, upid: str) -> None:
        command = [*module_command("ironcore-backup"), "task", "log", upid, "--follow"]
        environment = server.environment | {"IBS_STATE_DIR": str(server.state), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        """Read up to the line that holds `text`."""
        assert self.process.stdout is not None
        while not self.lines or text not in self.lines[-1]:
            line = self.process.stdout.readline()
            assert line, (self.lines, self.process.wait(60))
            self.lines.append(line.rstrip("\n"))

    def end(self) -> tuple[int, str]:
        """Exit status, and what was said on stderr."""
        out, err = self.process.communicate(timeout=60)
        self.lines += out.splitlines()
        return self.process.returncode, err

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_ctrl_c_leaves_the_task_alone(server: ServerProcess) -> None:
    with contextlib.closing(OpenTask(server, "host/followed")) as task:
        task.say("the first line")
        with contextlib.closing(Following(server, task.upid)) as follower:
            follower.until("the first line")
            follower.process.send_signal(signal.SIGINT)
            status, err = follower.end()
        assert status == 130
        assert err.startswith(f"note: the task goes on; see: ironcore-backup task log {task.upid} --follow\n")
        assert "error: cancelled" in err
        assert server.admin("task", "show", task.upid, "-o", "json").json()["state"] == "running"
        task.give_up()


def test_a_task_is_followed_over_a_restart_of_the_api(server: ServerProcess) -> None:
    with contextlib.closing(OpenTask(server, "host/restarted")) as task:
        task.say("the first line")
        with contextlib.closing(Following(server, task.upid)) as follower:
            follower.until("the first line")
            task.kill_api()
            task.say("the second line")
            task.give_up()
            status, err = follower.end()
    assert status == 1, err
    assert follower.lines[-1].startswith("TASK ERROR: ")
    assert [line for line in follower.lines if "line" in line] == ["the first line", "the second line"]


@pytest.mark.parametrize(
    ("program", "begun", "wanted"),
    [("ironcore-backup", "datastore l", "list"), ("ironcore-backup-client", "snap", "snapshot")],
)
def test_completion_in_a_shell(server: ServerProcess, program: str, begun: str, wanted: str, tmp_path: Path) -> None:
    """What `--show-completion` prints is a script that bash takes, and that completes."""
    (tmp_path / program).write_text(f'#!/bin/sh\nexec {shlex.join(module_command(program))} "$@"\n')
    (tmp_path / program).chmod(0o755)
    # Which shell it is for is found out from the processes above, so there must be one.
    command = f'"{tmp_path / program}" --show-completion bash && :'
    script = finish(["bash", "-c", command], server.environment, 0).out
    words = [program, *begun.split()]
    shell = f"""
        PATH={tmp_path}:$PATH
        {script}
        COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
        _{program.replace("-", "_")}_completion {program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = finish(["bash", "-c", shell], server.environment, 0)
    assert wanted in done.out.split()
