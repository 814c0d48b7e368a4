"""Real metric servers on free ports: InfluxDB and the push gateway of Prometheus, as Debian packages them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

needs_metric_servers = pytest.mark.skipif(
    shutil.which("influxd") is None or shutil.which("prometheus-pushgateway") is None,
    reason="needs influxdb, prometheus-pushgateway",
)
_INFLUX = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def fetch(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, data=data, timeout=20) as answer:
        return bytes(answer.read())


@contextmanager
def _running(command: list[str], ready: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                fetch(ready)
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} is not ready"
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def pushgateway(port: int) -> Iterator[str]:
    """Its address."""
    url = f"http://127.0.0.1:{port}"
    with _running(["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}"], f"{url}/-/ready"):
        yield url


class Influx:
    """A running InfluxDB with the database `ibs`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.write = f"{url}/write?db=ibs"
        fetch(f"{url}/query", urllib.parse.urlencode({"q": "CREATE DATABASE ibs"}).encode())

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What a query finds, a dictionary a row."""
        words = urllib.parse.urlencode({"db": "ibs", "q": query})
        (result,) = json.loads(fetch(f"{self.url}/query?{words}"))["results"]
        series = result.get("series", [])
        return [dict(zip(one["columns"], values, strict=True)) for one in series for values in one["values"]]


@contextmanager
def influx(folder: Path) -> Iterator[Influx]:
    folder.mkdir()
    port = free_port()
    config = folder / "influxdb.conf"
    config.write_text(_INFLUX.format(folder=folder, port=port, rpc=free_port()))
    with _running(["influxd", "run", "-config", str(config)], f"http://127.0.0.1:{port}/ping"):
        yield Influx(f"http://127.0.0.1:{port}")
