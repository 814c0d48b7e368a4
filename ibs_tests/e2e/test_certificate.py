"""Replacing the certificate of a running server: what runs goes on, who pinned the old one is told, no more is."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from ibs.client.agent.identity import load_identity
from ibs.client.config import Login, Logins, Server
from ibs.runtime.clock import SystemClock
from ibs.security.tls import make
from ibs_tests.support.agents import joined, shown, until
from ibs_tests.support.programs import running_server


def test_a_certificate_is_replaced_live(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        host, _, port = server.facts["address"].rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        line = http.client.HTTPSConnection(host, int(port), context=context)

        def ping() -> int:
            line.request("GET", "/api/v1/ping")
            with line.getresponse() as answer:
                answer.read()
                return answer.status

        assert ping() == 200
        own = line.sock
        for words in (("renew",), ("replace", str(tmp_path / "new.pem"))):
            (tmp_path / "new.pem").write_bytes(make("elsewhere", [], SystemClock().now()))
            made = server.admin("certificate", *words, "--output", "json").json()
            assert made["fingerprint"] != server.facts["fingerprint"]
            refused = server.client("main", "snapshot", "list", check=None)
            assert refused.status != 0
            assert "TLS fingerprint mismatch" in refused.err
            assert made["fingerprint"] in refused.err
            assert server.facts["fingerprint"] in refused.err
            assert server.admin("certificate", "show", "-o", "json").json()["fingerprint"] == made["fingerprint"]
            assert server.admin("status", "-o", "json").json()["fingerprint"] == made["fingerprint"]
            assert made["fingerprint"] in server.admin("host", "invite", f"web-{words[0]}", "-o", "json").out
            assert ping() == 200
            assert line.sock is own, "the connection that was there is the same one still"
            server.facts["fingerprint"] = made["fingerprint"]
            server.client("main", "snapshot", "list")
        line.close()


def test_who_was_told_before_is_never_refused(tmp_path: Path) -> None:
    """An agent and a saved login come over a change of the certificate; one that heard nothing is refused."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"hello")
    with running_server(tmp_path / "server") as server:
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        host = joined(server, "web01", tmp_path / "web01")
        host.config.write_text(f'paths = ["{tmp_path}/data"]\n')
        host.config.chmod(0o600)
        host.start()
        try:
            until(lambda: shown(server, "web01")["state"] == "online")
            where, old = Server.parse(server.facts["address"]), server.facts["fingerprint"]
            auth_id, _, secret = (server.state / "root.token").read_text().strip().partition(":")
            config = {name: tmp_path / name for name in ("told", "untold")}
            for folder in config.values():
                logins = Logins(folder / "ironcore-backup" / "logins.json")
                logins.save(where, Login(old, auth_id, secret))

            def listed(who: str, check: int | None = 0) -> str:
                plain = {"IBS_FINGERPRINT": "", "IBS_SECRET": "", "IBS_REPOSITORY": f"{where}:main"}
                plain["XDG_CONFIG_HOME"] = str(config[who])
                return server.client("main", "snapshot", "list", check=check, **plain).err

            def backup() -> None:
                path = f"data.tree:{tmp_path}/data"
                server.admin("backup", "run", "--store", "main", "--host", "web01", "--path", path)

            coming = server.admin("certificate", "renew", "--in", "7d", "-o", "json").json()
            both = f"{old},{coming['next_fingerprint']}"
            assert coming["fingerprint"] == old
            backup()  # the order is an answer of the server, and tells
            until(lambda: load_identity(host.folder / "agent").fingerprint == both)
            assert listed("told") == ""
            assert Logins(config["told"] / "ironcore-backup" / "logins.json").get(where).fingerprint == both  # type: ignore[union-attr]
            warned = server.client("main", "snapshot", "list", IBS_FINGERPRINT=old).err
            assert f"IBS_FINGERPRINT={both}" in warned

            new = server.admin("certificate", "renew", "-o", "json").json()["fingerprint"]
            assert new == coming["next_fingerprint"]
            backup()
            host.kill()
            host.start()
            backup()
            until(lambda: load_identity(host.folder / "agent").fingerprint == new)
            assert listed("told") == ""
            assert Logins(config["told"] / "ironcore-backup" / "logins.json").get(where).fingerprint == new  # type: ignore[union-attr]
            assert "TLS fingerprint mismatch" in listed("untold", check=None)
            server.client("main", "snapshot", "list", IBS_FINGERPRINT=both)
        finally:
            host.kill()
