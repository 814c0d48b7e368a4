"""The shipped units under a real systemd and a real journal, in namespaces of their own, as the guide uses them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ibs.services.context import ROLES

UNITS = Path(__file__).parents[2] / "contrib" / "systemd"
OURS = [UNITS / f"{unit}.service" for unit in ("ironcore-backup", *(f"ironcore-backup-{role}" for role in ROLES))]
PROGRAM = Path(sys.executable).parent / "ironcore-backup"

needs_systemd = pytest.mark.skipif(
    not all(map(shutil.which, ("systemctl", "systemd-analyze", "unshare"))), reason="needs systemd"
)

# A manager of its own: it needs a mounted /run/systemd, a private /proc and cgroup root, and a journal beside it.
_PRELUDE = """
set -eu
mount -t tmpfs tmpfs /run/systemd
mkdir -p /run/systemd/system /run/systemd/journal /run/log
mount -t tmpfs tmpfs /run/log
mkdir /run/log/journal
export HOME=@HOME@ XDG_RUNTIME_DIR=/run/systemd/user-runtime IBS_STATE_DIR=@HOME@/state
mkdir -m 700 $XDG_RUNTIME_DIR
/lib/systemd/systemd-journald >@HOME@/journald.out 2>&1 &
wait_for() {
    for _ in $(seq 400); do if eval "$1"; then return 0; fi; sleep 0.1; done
    echo "it did not happen in time: $1" >&2
    systemctl --user --no-pager --all list-units 'ironcore-backup*' >&2
    journalctl --no-pager -n 30 >&2
    exit 1
}
wait_for 'test -S /run/systemd/journal/socket'
/lib/systemd/systemd --user >@HOME@/manager.out 2>&1 &
wait_for 'systemctl --user is-system-running 2>/dev/null | grep -qE "running|degraded"'
S="systemctl --user --no-pager"
"""

_SCENES = """
running() { [ "$($S is-active ironcore-backup @UNITS@ | sort -u)" = active ]; }
pid() { $S show -p MainPID --value ironcore-backup; }
restarts() { @PROGRAM@ service list --output json | jq -r '.[] | select(.role == "'$1'") | .restarts'; }

$S start --no-block ironcore-backup
wait_for running
echo "== status"
$S status ironcore-backup-verifier
echo "== server"
$S status ironcore-backup
echo "== journal"
wait_for 'journalctl -u ironcore-backup-notify | grep -q "event kept"'
journalctl --no-pager -u ironcore-backup-notify
echo "== fields"
journalctl --no-pager -u ironcore-backup-verifier -o json -n 1
echo "== restarted"
$S restart ironcore-backup-verifier
wait_for '[ "$(restarts verifier)" = 1 ]'
echo "verifier $(restarts verifier) gc $(restarts gc)"
echo "== crash"
first=$(pid)
kill -9 $first
wait_for '[ "$(pid)" != 0 ] && [ "$(pid)" != '$first' ] && running'
echo "verifier $(restarts verifier)"
echo "== stopped"
$S stop ironcore-backup
wait_for '! $S is-active ironcore-backup @UNITS@ | grep -qv inactive'
$S is-active ironcore-backup @UNITS@ | sort -u
"""


def install(home: Path) -> None:
    """The units as shipped, system call filter and capabilities included; only where things lie is changed.

    What needs mounts of systemd's own is left out: the manager of a user, inside a namespace, does these otherwise or
    not at all.
    """
    folder = home / ".config" / "systemd" / "user"
    folder.mkdir(parents=True)
    serve = f"{PROGRAM} serve --state-dir {home}/state --log-dir {home}/log --listen 127.0.0.1:0"
    for unit in OURS:
        text = unit.read_text().replace("/usr/bin/ironcore-backup serve", serve)
        text = text.replace("/usr/bin/ironcore-backup", str(PROGRAM))
        text = text.replace("/var/lib/ironcore-backup", f"{home}/state")
        text = re.sub(r"(?m)^(State|Logs|Configuration)Directory.*\n", "", text)
        text = re.sub(r"(?m)^(Protect|Private)[A-Za-z]*=.*\n", "", text)
        (folder / unit.name).write_text(text)


@pytest.mark.root
@needs_systemd
def test_the_guides_commands_are_true_under_systemd(tmp_path: Path) -> None:
    if not PROGRAM.exists():
        pytest.skip("the programs are not installed beside this interpreter")
    install(tmp_path)
    units = " ".join(f"ironcore-backup-{role}" for role in ROLES)
    script = _PRELUDE + _SCENES
    for mark, value in (("@HOME@", str(tmp_path)), ("@UNITS@", units), ("@PROGRAM@", str(PROGRAM))):
        script = script.replace(mark, value)
    (tmp_path / "scenes.sh").write_text(script)
    if subprocess.run(["unshare", "-mpfC", "--mount-proc", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces of our own are permitted here")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("IBS_", "XDG_", "DBUS_"))}
    done = subprocess.run(
        ["unshare", "-mpfC", "--mount-proc", "--kill-child", "bash", str(tmp_path / "scenes.sh")],
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    shown = dict(re.findall(r"(?ms)^== (\w+)\n(.*?)(?=^== |\Z)", done.stdout))
    assert "Active: active (running)" in shown["status"]
    assert 'Status: "active (running) since ' in shown["status"]
    assert "7 of 7 services" in shown["server"]
    assert "ironcore-backup-notify[" in shown["journal"]
    assert "service is active (running)" in shown["journal"]
    assert '"SYSLOG_IDENTIFIER":"ironcore-backup-verifier"' in shown["fields"]
    assert '"IBS_ROLE":"verifier"' in shown["fields"]
    assert shown["restarted"].split() == ["verifier", "1", "gc", "0"]
    assert shown["crash"].split() == ["verifier", "0"]
    assert shown["stopped"].split() == ["inactive"]


@needs_systemd
def test_the_units_are_valid(tmp_path: Path) -> None:
    install(tmp_path)
    folder = tmp_path / ".config" / "systemd" / "user"
    units = sorted(str(unit) for unit in folder.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "ironcore-backup" in line]
    assert ours == []


def test_there_is_a_unit_for_each_role_bound_to_the_server() -> None:
    main = (UNITS / "ironcore-backup.service").read_text()
    for role in ROLES:
        assert f"ironcore-backup-{role}.service" in main
        unit = (UNITS / f"ironcore-backup-{role}.service").read_text()
        assert f"service watch {role} " in unit
        assert {"BindsTo=ironcore-backup.service", "PartOf=ironcore-backup.service"} <= set(unit.splitlines())
        assert f"SyslogIdentifier=ironcore-backup-{role}" in unit
    assert "Type=notify" in main
    # Each of these would take the host's own disks away from a server that backs them up.
    for directive in ("PrivateDevices=yes", "ProtectClock=yes", "DeviceAllow=", "DevicePolicy=", "ProtectHome=yes"):
        assert not [line for line in main.splitlines() if line.startswith(directive)]
    assert "WatchdogSec=" in main
