"""Replacing the certificate of a running server: what runs goes on, who pinned the old one is told, no more is."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from ibs.runtime.clock import SystemClock
from ibs.security.tls import make
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
