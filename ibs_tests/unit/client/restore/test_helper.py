"""What travels between the two processes of a restore, and a helper that has nobody to talk to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ibs.client.restore import helper
from ibs.client.restore.helper import LENGTH, Answer, Frames, Place, Request, Setup, frame
from ibs.core import limits_restore
from ibs.errors import CorruptChunk, FormatError, ServerUnreachable
from ibs.runtime.arena import Arena
from ibs.wire.common import body_of
from ibs.wire.frames import Hello

FINGERPRINT = ":".join(["ab"] * 32)
REQUESTS = [Request(n, [Place(bytes([n]) * 32, 10 * n, 64 * n)]) for n in range(1, 5)]


@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_frames_come_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    raw = b"".join(map(frame, REQUESTS))

    async def main() -> None:
        send, receive = trio.testing.memory_stream_one_way_pair()
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(raw)], strict=True):
            if raw[begin:end]:
                await send.send_all(raw[begin:end])
        await send.aclose()
        source = Frames(receive, Request)
        found = []
        while (one := await source.next()) is not None:
            found.append(one)
        assert found == REQUESTS

    trio.run(main)


@pytest.mark.parametrize(
    "raw",
    [LENGTH.pack(limits_restore.HELPER_FRAME_BYTES_MAX + 1), LENGTH.pack(3) + b"abc", LENGTH.pack(1) + b"\xc0"],
)
async def test_what_is_no_message_is_refused(raw: bytes) -> None:
    send, receive = trio.testing.memory_stream_one_way_pair()
    await send.send_all(raw)
    with pytest.raises(FormatError, match="between the processes"):
        await Frames(receive, Request).next()


def test_errors_travel_with_all_they_tell() -> None:
    error = CorruptChunk("ab" * 32, "its content does not match")
    answer = Answer(3, {1: body_of(error)}, body_of(ServerUnreachable("gone", hint="try again")), (0.5, 0.25, 9))
    raw = frame(answer)
    assert LENGTH.unpack_from(raw)[0] == len(raw) - LENGTH.size
    assert helper.msgspec.msgpack.decode(raw[LENGTH.size :], type=Answer) == answer


def start(arena: Arena) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "ibs.client.restore.helper", str(arena.fd), str(arena.size)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[arena.fd])


@pytest.mark.parametrize("setup", ["closed", "garbage", "unreachable"])
def test_a_helper_that_cannot_help_ends_without_a_word(setup: str) -> None:
    arena = Arena(1 << 16)
    unreachable = Setup("127.0.0.1", 1, FINGERPRINT, Hello(authorization="a:b"), bytes(32), b"")
    said = {"closed": b"", "garbage": os.urandom(64), "unreachable": frame(unreachable)}[setup]
    process = start(arena)
    out, errors = process.communicate(said, timeout=60)
    assert out == b""
    assert errors == b""
    assert process.returncode == (0 if setup == "closed" else 1)
    arena.close()
