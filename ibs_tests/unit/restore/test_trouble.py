"""Which errors end a restore, and the words for them."""

from __future__ import annotations

import errno
import os

import pytest

from ibs.restore.trouble import destination_error, is_unusable, words


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EPIPE])
def test_a_full_or_broken_target_ends_the_restore(number: int) -> None:
    assert is_unusable(OSError(number, ""))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTSUP])
def test_an_error_of_one_entry_does_not(number: int) -> None:
    assert not is_unusable(OSError(number, ""))


def test_words_say_what_happened_and_where() -> None:
    error = destination_error("/restore", OSError(errno.ENOSPC, ""), where="etc/fstab")
    assert str(error) == "destination not writable: /restore: no space left (bytes or inodes) (at etc/fstab)"
    assert words(OSError(errno.EXDEV, "")) == os.strerror(errno.EXDEV)
