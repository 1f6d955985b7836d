"""What a killed run leaves is removed by the next one, and nothing else ever is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.artifacts import temporary
from stages.artifacts.temporary import (
    remove_leftovers,
    remove_litter,
    replace_folder,
    temporary_file,
    temporary_folder,
)
from stages.artifacts.whole_file import write_whole
from stages.artifacts.whole_folder import write_whole_folder

_KILLED = """
import os, signal, sys
from pathlib import Path
from stages.artifacts.temporary import temporary_file, temporary_folder
with (temporary_folder if sys.argv[2] == "folder" else temporary_file)(Path(sys.argv[1])) as made:
    if sys.argv[2] == "folder":
        (made / "inside").mkdir()
        (made / "inside" / "half").write_text("ha")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target: Path, kind: str, root: Path) -> Path:
    """What a killed writer to `target` has left."""
    before = set(target.parent.iterdir())
    subprocess.run([sys.executable, "-c", _KILLED, str(target), kind], cwd=root)
    (left,) = set(target.parent.iterdir()) - before
    return left


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_write_to_the_same_target_removes_it(tmp_path: Path, project_root: Path, kind: str) -> None:
    left = killed(tmp_path / "a.x", kind, project_root)
    of_another = killed(tmp_path / "b.x", kind, project_root)
    write_whole(tmp_path / "a.x", b"whole")
    assert not left.exists()
    assert names(tmp_path) == sorted(["a.x", of_another.name])


def test_what_lives_or_is_not_ours_stays(tmp_path: Path) -> None:
    theirs = [
        ".a.x.tmp",
        ".a.x.0123456789AB.tmp",
        ".a.x.0123456789ab.tmp~",
        "a.x.0123456789ab.tmp",
        "a.x.resume",
    ]
    for name in theirs:
        (tmp_path / name).touch()
    (tmp_path / ".a.x.0123456789ab.tmp").symlink_to(tmp_path / "a.x.resume")
    target = tmp_path / "a.x"
    with temporary_file(target) as (_, file), temporary_folder(target) as folder:
        remove_litter(target)
        assert file.exists() and folder.exists()
    assert names(tmp_path) == sorted([*theirs, ".a.x.0123456789ab.tmp"])


def test_private_files_go_when_the_result_is_newer_and_nobody_holds_them(tmp_path: Path) -> None:
    out, state, rounds = (tmp_path / name for name in ("a.h5", ".a.h5.resume", ".a.h5.rounds"))
    for path in (out, state, rounds):
        path.touch()
    os.utime(state, (1, 1))
    os.utime(out, (2, 2))
    os.utime(rounds, (3, 3))  # of a run that goes on
    remove_leftovers(out)
    assert names(tmp_path) == [".a.h5.rounds", "a.h5"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """Where two names cannot be exchanged at once, the old folder is moved away for a moment."""
    if not at_once:
        monkeypatch.setattr(temporary, "_exchange", lambda first, second: False)
    out = tmp_path / "pictures"
    for content in (b"old", b"new"):
        write_whole_folder(out, {"deep/file": content, content.decode(): b""})
    assert (out / "deep" / "file").read_bytes() == b"new"
    assert names(out) == ["deep", "new"]
    assert names(tmp_path) == ["pictures"]


def test_a_folder_moved_away_by_a_killed_run_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "pictures", os.rename
    write_whole_folder(out, {"file": b"old"})
    with monkeypatch.context() as patch:
        patch.setattr(temporary, "_exchange", lambda first, second: False)
        patch.setattr(temporary.shutil, "rmtree", lambda *arguments, **options: None)
        calls = iter([rename])
        patch.setattr(os, "rename", lambda a, b: next(calls)(a, b))  # ends the second one like a kill
        with pytest.raises(StopIteration), temporary_folder(out) as fresh:
            replace_folder(fresh, out)
    assert not out.exists() and len(names(tmp_path)) == 2
    remove_litter(out)
    assert names(tmp_path) == ["pictures"] and (out / "file").read_bytes() == b"old"


def test_a_folder_of_many_files_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [tmp_path / f"{i}.png" for i in range(5)]
    listed = []
    monkeypatch.setattr(temporary.os, "listdir", lambda folder: listed.append(folder) or [])
    remove_litter(*targets)
    for target in targets:
        write_whole(target, b"", tidy=False)
    assert listed == [tmp_path]
