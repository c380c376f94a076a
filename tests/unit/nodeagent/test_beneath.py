"""Paths below a folder that others may change: opened or made there, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from bamikube.nodeagent.host import beneath, subpaths
from bamikube.nodeagent.host.port import HostFailure


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    (volume / "real" / "deep").mkdir(parents=True)
    (tmp_path / "volume-of-another").mkdir()
    (volume / "inside").symlink_to("real")
    (volume / "inside-by-full-name").symlink_to(volume / "real")
    (volume / "up").symlink_to("../volume-of-another")
    (volume / "away").symlink_to("/etc")
    (volume / "nowhere").symlink_to("absent")
    return volume


@pytest.mark.parametrize("part", ["real/deep", "inside/deep", "inside-by-full-name/deep", "./real//deep"])
def test_what_is_in_the_volume_is_opened(volume: Path, part: str) -> None:
    with beneath.opened(volume, part) as found:
        assert os.fstat(found).st_ino == (volume / "real" / "deep").stat().st_ino


@pytest.mark.parametrize("part", ["up", "away", "away/hostname", "inside/../../volume-of-another"])
def test_what_is_elsewhere_is_not(volume: Path, part: str) -> None:
    with pytest.raises(OSError) as failure, beneath.opened(volume, part):
        pass
    assert failure.value.errno == errno.EXDEV


def test_a_link_put_there_after_the_look_is_not_followed(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = beneath._within

    def meanwhile(root: str, real: str) -> str:
        (volume / "real").rename(volume / "moved")
        (volume / "real").symlink_to("/etc")
        return judged(root, real)

    monkeypatch.setattr(beneath, "_within", meanwhile)
    with pytest.raises(OSError) as failure, beneath.opened(volume, "real/deep"):
        pass
    assert failure.value.errno == errno.ELOOP


def test_only_the_last_folder_gets_the_mode(volume: Path) -> None:
    beneath.make_folders(volume, "inside/new/one", 0o2777)
    assert stat.S_IMODE((volume / "real" / "new").stat().st_mode) & 0o777 == 0o755
    assert stat.S_IMODE((volume / "real" / "new" / "one").stat().st_mode) == 0o2777
    beneath.make_folders(volume, "real", 0o700)
    assert stat.S_IMODE((volume / "real").stat().st_mode) != 0o700  # it was there


@pytest.mark.parametrize("part", ["up/new", "away/new", "nowhere/new"])
def test_nothing_is_made_elsewhere(volume: Path, part: str) -> None:
    with pytest.raises(OSError):
        beneath.make_folders(volume, part, 0o777)
    assert not (volume.parent / "volume-of-another" / "new").exists() and not Path("/etc/new").exists()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("/tmp", "error SubPath `/tmp` must not be an absolute path"),
        ("a/../b", "unable to provision SubPath `a/../b`: must not contain '..'"),
    ],
)
def test_a_sub_path_is_judged_in_the_kubelets_words(part: str, words: str) -> None:
    with pytest.raises(HostFailure) as failure:
        subpaths.checked(part)
    assert str(failure.value) == words


def test_a_volume_that_is_not_there_has_no_parts(tmp_path: Path) -> None:
    """A hostPath without a type need not be there; the runtime makes it, but a part of it nobody does."""
    with pytest.raises(HostFailure) as failed:
        subpaths.prepare(tmp_path, tmp_path / "none", "part", ("v", "app", 0))
    assert str(failed.value) == f"stat {tmp_path}/none: no such file or directory"
    assert not (tmp_path / "none").exists()
