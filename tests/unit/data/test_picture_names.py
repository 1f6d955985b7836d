"""Names of pictures in annotations lead to files below their folder, to no others, and are names that files can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.images import path_below
from stages.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "pictures" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "pictures" / "up").symlink_to("..")
    (tmp_path / "pictures" / "in.jpg").symlink_to("sub/a.jpg")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../secret.jpg", "leaves the image folder"),
        ("sub/../../secret.jpg", "leaves the image folder"),
        ("/etc/passwd", "leaves the image folder"),
        ("out.jpg", "through a link"),
        ("up/secret.jpg", "through a link"),
        ("a\0.jpg", "null byte"),
        ("\ud800.jpg", "half a character"),
        ("x" * 300 + ".jpg", "too long"),
        ("a/" * 3000 + "a.jpg", "too long"),
        ("é" * 130, "260 bytes is too long"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        path_below(folder, name)
    assert len(caught.value.message) < 400


def test_whole_paths_links_inside_and_odd_letters_are_understood(folder: Path) -> None:
    assert path_below(folder, f"{folder}/sub/a.jpg") == folder / "sub/a.jpg"
    assert path_below(folder, "in.jpg") == folder / "in.jpg"
    assert path_below(folder, "sub/../a.jpg") == folder / "a.jpg"
    assert path_below(folder, "..\\secret.jpg") == folder / "..\\secret.jpg"  # one name, on this system


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert path_below(link, "sub/a.jpg") == link / "sub/a.jpg"
    assert path_below(link, f"{link}/sub/a.jpg") == link / "sub/a.jpg"
