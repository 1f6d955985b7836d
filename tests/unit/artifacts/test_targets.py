"""What must never be replaced, and what is known about an output before the work."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.artifacts import write_artifact
from stages.artifacts.provenance import storable, stored_path
from stages.artifacts.target import require_file_target, require_folder_target, require_writable
from stages.artifacts.whole_file import write_whole
from stages.data.images import path_below
from stages.errors import ArtifactError, SeqresError, UsageError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: addresses of sockets must be short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def special(here: Path) -> Iterator[dict[str, Path]]:
    """Everything a name can stand for that is no regular file."""
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        Path("to-pipe").symlink_to("pipe")
        Path("to-to-pipe").symlink_to(here / "to-pipe")
        Path("to-device").symlink_to("/dev/null")
        Path("to-stream").symlink_to("/dev/stdout")
        Path("round").symlink_to("round")
        yield {
            "pipe": Path("pipe"), "socket": Path("socket"), "device": Path("/dev/null"),
            "link to a pipe": here / "to-to-pipe", "link to a device": Path("to-device"),
            "standard output": Path("/dev/stdout"), "descriptor": Path("/dev/fd/1"),
            "link to a stream": Path("to-stream"), "link to itself": Path("round"), "dash": Path("-"),
        }  # fmt: skip


SPECIAL = [
    ("pipe", "is a named pipe"), ("socket", "is a socket"), ("device", "/dev/null is a device"),
    ("link to a pipe", "to-to-pipe is a named pipe"), ("link to a device", "to-device is a device"),
    ("standard output", "is a stream"), ("descriptor", "is a stream"), ("link to a stream", "is a stream"),
    ("link to itself", "leads to itself"), ("dash", "cannot go to standard output"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), SPECIAL)
def test_no_writer_replaces_what_is_no_regular_file(special: dict[str, Path], name: str, words: str) -> None:
    before = sorted(os.listdir())
    with pytest.raises(UsageError, match=words) as caught:
        require_file_target(special[name])
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=words):
        write_whole(special[name], b"content")
    with (
        pytest.raises(UsageError, match=words),
        write_artifact(special[name], "split", fingerprint="f", provenance={}),
    ):
        raise AssertionError("work was begun")
    assert sorted(os.listdir()) == before


def test_a_file_may_be_absent_replaced_or_behind_links(here: Path) -> None:
    Path("dangling").symlink_to("behind")
    write_whole(Path("dangling"), b"1")
    write_whole(Path("dangling"), b"2")
    assert Path("dangling").is_symlink() and Path("behind").read_bytes() == b"2"
    write_whole(here / "new folder" / "'quoted' & more", b"3")
    assert [p.name for p in (here / "new folder").iterdir()] == ["'quoted' & more"]


def test_where_a_folder_is_wanted(special: dict[str, Path], here: Path) -> None:
    require_folder_target(here, "--overlays")
    require_folder_target(here / "new", "--overlays")
    with pytest.raises(UsageError, match="pipe is a named pipe"):
        require_folder_target(special["pipe"], "--overlays")


def test_a_place_below_a_file_or_with_too_long_a_name_is_found_early(here: Path) -> None:
    Path("file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        require_writable(Path("file/deep/out.h5"))
    require_writable(here / ("ä" * 110))
    with pytest.raises(UsageError, match="file name too long") as caught:
        require_writable(
            here / ("ä" * 120)
        )  # 240 bytes: the temporary file beside it would have more than 255
    assert caught.value.facts == ("240 bytes, at most 229",)
    with pytest.raises(UsageError, match="too long"):
        require_writable(here / ("x" * 300) / "out.h5")


def test_a_folder_without_permission_or_on_a_read_only_disk(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match=f"no permission in {here}"):
        require_writable(here / "new" / "out.h5")
    disk = SimpleNamespace(f_flag=os.ST_RDONLY, f_blocks=1, f_bavail=1, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    with pytest.raises(UsageError, match="read-only file system"):
        require_writable(here / "out.h5")


def test_a_full_disk_is_told_before_the_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_flag=0, f_blocks=10, f_bavail=2, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    with pytest.raises(SeqresError, match="no space left on device") as caught:
        require_writable(here / "my file.h5", least_free=9000)
    assert caught.value.facts == ("free: 8192 bytes, needed: 9000 at least",)
    require_writable(here / "my file.h5", least_free=8000)
    disk.f_blocks = 0  # a file system that does not tell
    require_writable(here / "my file.h5")


def test_a_name_that_is_no_utf8_is_stored_and_found_again(here: Path) -> None:
    odd = here / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    assert storable(str(odd)) == f"{here}/caf\\xe9"
    assert stored_path(storable(str(odd))) == odd
    (here / "caf\\xe9").mkdir()  # who has such a name keeps it
    assert stored_path(storable(str(odd))) == here / "caf\\xe9"
    assert storable("röd".encode().decode("ascii", "surrogateescape")) == "röd"
    assert storable("half \ud83d") == "half \\ud83d"
    assert stored_path("plain ö") == Path("plain ö")


def test_half_a_character_in_the_name_of_a_picture_is_told(here: Path) -> None:
    assert path_below(here, "ö.jpg") == here / "ö.jpg"
    with pytest.raises(ArtifactError, match="holds half a character"):
        path_below(here, "\ud83d.jpg")
