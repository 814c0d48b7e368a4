from __future__ import annotations

import pytest

from ibs.services.bundle_veil import GONE, Veil, without_keys, without_secrets

SECRET = "Zk3_" + "aB9-" * 9 + "xyz"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer a@ibs!t:{SECRET}",
        f"said {SECRET} aloud",
        '{"password": "hunter2-hunter2"}',
        "IBS_KEY_PASSPHRASE=hunter2-hunter2",
        "postgres://me:hunter2-hunter2@db/x",
        "a@ibs!t:hunter2-hunter2",
        "api_key: hunter2-hunter2",
    ],
)
def test_secrets_go(text: str) -> None:
    shown = without_secrets(text)
    assert GONE in shown
    assert "hunter2" not in shown
    assert SECRET not in shown


def test_keys_go_also_when_cut_off() -> None:
    assert without_keys("a\n-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\n{b}") == f"a\n{GONE}\n{{b}}"
    assert "MIIE" not in without_keys("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----")


def test_digests_and_known_words_stay() -> None:
    digest = "0123456789abcdef" * 4
    assert without_secrets(digest) == digest
    assert without_secrets("keep my-own-secret", ["my-own-secret"]) == f"keep {GONE}"


def test_names_get_the_same_alias_everywhere() -> None:
    veil = Veil(names=True)
    veil.learn("host", "web01")
    assert veil.text("web01 at 192.0.2.7, web010 not, web01 again") == "host-1 at address-1, web010 not, host-1 again"
    assert veil.text("host/web01/2026-01-01T00:00:00Z") == "host/host-1/2026-01-01T00:00:00Z"
    assert veil.text('"path":"/home/anna/My file","x":1') == '"path":"path-1","x":1'
    assert veil.text("anna@ibs!t and anna@ibs!t and fe80::1") == "user-1 and user-1 and address-2"
    shown = veil.text("UPID:web01:1:2:3:4:backup:s1%3Ahost%2Fweb01:anna@ibs!t:")
    assert shown == "UPID:host-1:1:2:3:4:backup:subject-1:user-1:"


def test_names_stay_when_wanted() -> None:
    assert Veil(names=False).text("web01 /etc 192.0.2.7") == "web01 /etc 192.0.2.7"
