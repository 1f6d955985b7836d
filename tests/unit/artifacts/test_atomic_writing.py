"""A reader sees the whole file or none, whenever the writer dies and whoever else writes."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.artifacts import open_artifact, verify_artifact, write_artifact
from stages.errors import SeqresError

Write = Callable[..., Path]

# Writes a split whose `rank` is all `value`, and kills itself at the point named on its command line.
_WRITER = """
import os, signal, sys
import numpy as np
import stages.artifacts.writer as writer
path, value, point = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def dying_after(function):
    def call(*arguments):
        function(*arguments)
        die()
    return call

if point == "before-fsync": os.fsync = die
if point == "after-fsync": os.fsync = dying_after(os.fsync)
if point == "before-rename": os.replace = die
if point == "after-rename": os.replace = dying_after(os.replace)
if point == "finishing": writer.combine = die
if point == "created": writer.ArtifactWriter.attr = die

for _ in range(int(sys.argv[4])):
    with writer.write_artifact(path, "split", fingerprint="f", provenance={}) as w:
        for name in ("dataset_digest", "split_name", "strategy", "seed", "unit"):
            w.attr(name, "x")
        w.column("rank", np.full(3000, value))
        if point == "columns": die()
        w.column("visible", np.zeros(3000, bool))
        w.column("labelled_ref_id", np.zeros(0, int))
        w.ragged_stream("pieces", (np.zeros(1 << 20, np.uint8) for _ in range(5)))
        if point == "streamed": die()
"""


def start(path: Path, value: int, point: str, root: Path, times: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _WRITER, str(path), str(value), point, str(times)]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    process.communicate()
    return process.returncode


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    ("point", "survives"),
    [
        ("created", 1),
        ("columns", 1),
        ("streamed", 1),
        ("finishing", 1),
        ("before-fsync", 1),
        ("after-fsync", 1),
        ("before-rename", 1),
        ("after-rename", 2),
    ],
)
def test_a_kill_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, project_root: Path, point: str, survives: int
) -> None:
    path = tmp_path / "split.h5"
    with write_artifact(path, "split", fingerprint="f", provenance={}) as writer:
        for name in ("dataset_digest", "split_name", "strategy", "seed", "unit"):
            writer.attr(name, "x")
        writer.column("rank", np.ones(3, int))
        writer.column("visible", np.zeros(3, bool))
        writer.column("labelled_ref_id", np.zeros(0, int))
    process = start(path, 2, point, project_root)
    assert finish(process) == -signal.SIGKILL
    with open_artifact(path, "split") as artifact:
        assert set(artifact["rank"]) == {survives}
    assert not [f for f in verify_artifact(path) if "outside" not in f]
    if survives == 1:
        assert len(names(tmp_path)) == 2  # the litter of the killed writer …
    assert finish(start(path, 3, "-", project_root)) == 0
    assert names(tmp_path) == ["split.h5"]  # … goes with the next write


def test_several_writers_and_a_reader(tmp_path: Path, project_root: Path) -> None:
    path = tmp_path / "split.h5"
    assert finish(start(path, 0, "-", project_root)) == 0
    writers = [start(path, value, "-", project_root, times=8) for value in (1, 2)]
    while any(w.poll() is None for w in writers):
        with open_artifact(path, "split") as artifact:
            assert len(set(artifact["rank"])) == 1
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    assert names(tmp_path) == ["split.h5"]


def test_a_living_writer_keeps_its_temporary_file(write_sample: Write, tmp_path: Path) -> None:
    def write_in_between(_: object) -> None:
        write_sample("split", value=1)
        assert len(names(tmp_path)) == 2

    with open_artifact(write_sample("split", value=2, more=write_in_between)) as artifact:
        assert artifact.attrs["unit"] == "unit-2"
    assert names(tmp_path) == ["split.h5"]


def test_an_exception_inside_leaves_nothing(write_sample: Write, tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample("split", more=fail)
    assert names(tmp_path) == []


def test_what_does_not_fit_the_schema_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"a split artifact cannot be written like this: .*rank is missing"),
        write_artifact(tmp_path / "a.h5", "split", fingerprint="f", provenance={}) as writer,
    ):
        writer.column("visible", np.zeros(3, bool))
    assert names(tmp_path) == []


def test_the_mode_follows_the_umask_and_a_link_is_written_through(
    write_sample: Write, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "split.h5").symlink_to(tmp_path / "there" / "real.h5")
    path = write_sample("split")
    assert path.is_symlink()
    real = tmp_path / "there" / "real.h5"
    (tmp_path / "plain").touch()
    assert real.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_missing_folders_are_made(write_sample: Write) -> None:
    assert write_sample("split", "a/b/split.h5").exists()


_LIMITED = """
import resource, signal, sys
import numpy as np
from stages.artifacts import write_artifact
from stages.errors import SeqresError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with write_artifact(sys.argv[1], "split", fingerprint="f", provenance={}) as w:
        w.column("rank", np.random.default_rng(0).integers(0, 1 << 60, 1 << 19))
        w.column("visible", np.zeros(1 << 19, bool))
        w.column("labelled_ref_id", np.zeros(0, int))
        for name in ("dataset_digest", "split_name", "strategy", "seed", "unit"):
            w.attr(name, "x")
except SeqresError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a file size limit")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "a.h5")],
        cwd=project_root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path / 'a.h5'}: file too large")
    assert names(tmp_path) == []


def test_a_folder_that_is_a_file_is_told(write_sample: Write, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(SeqresError, match=r"cannot write .*: (file exists|not a directory)"):
        write_sample("split", "a/split.h5")
