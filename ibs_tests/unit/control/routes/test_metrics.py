"""Metrics are text for Prometheus, at the path it expects too, and not for everybody."""

from __future__ import annotations

from typing import Any

from ibs_tests.support.control import FakeContext, Served


async def test_the_text_format(ask: Any) -> None:
    answer = await ask("GET", "/metrics")
    assert answer.content == b"# nothing\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_at_the_plain_path_too_with_the_same_right(served: Served, context: FakeContext) -> None:
    auditor = context.access.grant("prom@ibs!scrape", "Audit", "/system")
    nobody = context.access.token("nobody@ibs!t")
    async with served.http() as client:
        found = {}
        for credential in (auditor, nobody, ""):
            headers = {"Authorization": f"Bearer {credential}"} if credential else {}
            found[credential] = (await client.get(f"{served.url}/metrics", headers=headers)).status_code
        assert found == {auditor: 200, nobody: 403, "": 401}
        assert (await client.post(f"{served.url}/metrics")).status_code == 405
