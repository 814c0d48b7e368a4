"""One certificate for all tests of the control plane: making one takes longer than most of them."""

from __future__ import annotations

import pytest

from ibs.wire import frames
from ibs_tests.support.control import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"), frames.ALPN, "test-plane")
