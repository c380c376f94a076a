"""What the kernel refuses is told in Go's words: lower case, no number, with the path where there is one."""

from __future__ import annotations

import errno
import os

import pytest

from bamikube.nodeagent.volumes.faults import plain, told


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left on device"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/v"), "/v: input/output error"),
        (ValueError("Something else"), "Something else"),
    ],
)
def test_words(error: Exception, text: str) -> None:
    assert plain(error) == text
    assert told(error, "v", "v") == f'MountVolume.SetUp failed for volume "v" : {text}'
