"""TLS over the loopback: both ciphers of the product's own contexts, and a failure that is only a note."""

from __future__ import annotations

import socket
import ssl

import pytest

from ibs.client.benchmark import tls
from ibs.client.benchmark.tls import make_contexts, measure_tls
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool


async def test_both_ciphers_are_measured() -> None:
    figures, notes = await measure_tls(ThreadPool(), SystemClock(), 0.02)
    assert notes == []
    assert figures[0].variant.endswith("TLSv1.3")
    assert "CHACHA20" in figures[1].variant
    assert all(one.bytes > 0 and one.part == "tls" for one in figures)


def test_the_settings_are_the_products() -> None:
    first, second = make_contexts()
    for context in (first.server, first.client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert second.client.maximum_version is ssl.TLSVersion.TLSv1_2
    assert {cipher["name"] for cipher in second.client.get_ciphers() if cipher["protocol"] == "TLSv1.2"} == {
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }


async def test_a_handshake_that_fails_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_contexts()
    wrong = tls._Contexts(second.server, first.client)  # nothing in common
    monkeypatch.setattr(tls, "make_contexts", lambda: [wrong])
    figures, notes = await measure_tls(ThreadPool(), SystemClock(), 0.02)
    assert figures == []
    assert notes[0].startswith("TLS was not measured: ")


def test_a_listener_that_nobody_calls_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        assert tls._take_all(listener, make_contexts()[0].server) == (0, "")
