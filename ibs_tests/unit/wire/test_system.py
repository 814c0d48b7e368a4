"""Bodies of status, tasks and access: secrets only where they belong."""

from __future__ import annotations

from ibs.wire.system import (
    AclEntry,
    BackupRun,
    InboxView,
    ServerStatus,
    TaskView,
    TokenCreate,
    TokenCreated,
    TokenView,
    UserView,
    WorkerView,
)
from ibs_tests.support.control import sample


def test_only_a_new_token_has_a_secret() -> None:
    holders = [kind for kind in (TokenCreate, TokenView, UserView) if "secret" in kind.__struct_fields__]
    assert holders == []
    assert "secret" in TokenCreated.__struct_fields__


def test_defaults() -> None:
    task = sample(TaskView)
    assert (task.ended, task.message, task.stages, task.waits_for) == ("", "", {}, "")
    assert AclEntry(path="/", role="Admin", auth_id="a@ibs").propagate
    run = BackupRun(store="main", sources=["etc.tree:/etc"])
    assert (run.backup_type, run.backup_id, run.exclude, run.all_file_systems) == ("host", "", [], False)
    assert sample(WorkerView).slots == 1
    assert sample(InboxView).fields == {}
    assert sample(ServerStatus).loop_stalls == 0
