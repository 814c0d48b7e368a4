"""What every test shares: the rule on skipping, and helpers that need no import.

A test may be skipped only for a stated reason; where `IBS_TESTS_NO_SKIP` is set (as in CI) a skipped test
fails the run, unless what is missing is a part of the kernel, which no package brings: such reasons begin with
`LACKING_KERNEL`.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("ibs", deadline=None)
settings.load_profile("ibs")

LACKING_KERNEL = "the kernel lacks "


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests marked `slow` come first, so that no process is left with one when the others are done.

    Tests marked `root` are skipped for other users, with the reason.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where everything must be installed, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("IBS_TESTS_NO_SKIP"):
        return
    skipped = [report for report in reporter.stats.get("skipped", []) if LACKING_KERNEL not in str(report.longrepr)]
    if skipped and exitstatus == pytest.ExitCode.OK:
        reporter.write_line("tests were skipped although everything they need should be here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
