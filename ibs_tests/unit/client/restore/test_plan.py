"""Values around a restore."""

from __future__ import annotations

import pytest

from ibs.client.restore.plan import RestorePlan, first_error, overwrite_rule
from ibs.core.keys import DataKeys
from ibs.errors import DestinationNotWritable, UsageError
from ibs.restore.tree.folders import Overwrite


@pytest.mark.parametrize("rule", list(Overwrite))
def test_overwrite_rules_by_name(rule: Overwrite) -> None:
    assert overwrite_rule(rule.value) is rule


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="'sometimes'"):
        overwrite_rule("sometimes")


def test_our_own_error_is_told_first() -> None:
    ours = DestinationNotWritable("/x", "full")
    group = BaseExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError(), ours])])
    assert first_error(group) is ours
    other = BaseExceptionGroup("", [KeyboardInterrupt(), ValueError("x")])
    assert isinstance(first_error(other), ValueError)
    assert isinstance(first_error(BaseExceptionGroup("", [KeyboardInterrupt()])), KeyboardInterrupt)
    alone = ValueError()
    assert first_error(alone) is alone


def test_keys_are_not_shown() -> None:
    plan = RestorePlan(
        store="s", snapshot="host/a", archive="a.tree", target="/t", keys=DataKeys.from_root(b"secret!!" * 4)
    )
    assert "secret" not in repr(plan)
