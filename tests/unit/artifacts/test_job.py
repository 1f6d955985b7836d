"""Caching: what reruns a stage, what does not, and what a refusal says."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from stages.artifacts import RunOptions, StageJob, StageResult, open_artifact
from stages.artifacts.job import fingerprint
from stages.artifacts.writer import ArtifactWriter
from stages.config import check_ranges, option
from stages.errors import ArtifactError, StaleOutputError, UsageError

Write = Callable[..., Path]


@dataclass(frozen=True)
class Config:
    ratio: float = option(0.1, "share", min=0, max=1)
    strategy: Literal["random", "list"] = option("random", "how")
    names: tuple[str, ...] = option(("train",), "splits")
    count: int | None = option(None, "number")
    seed: int = option(0, "seed")
    keep: bool = option(False, "keep")
    device: str = option("auto", "device", semantic=False)
    workers: int = option(0, "workers", semantic=False)

    def __post_init__(self) -> None:
        check_ranges(self)


def job(out: Path, dataset: Path, config: Config | None = None, **changes: Any) -> StageJob:
    arguments: dict[str, Any] = {
        "stage": "split-masks",
        "version": 1,
        "config": config or Config(),
        "kind": "split",
        "out": out,
        "inputs": {"dataset": (dataset, "dataset"), "points": (None, "resampled_points")},
    }
    return StageJob(**{**arguments, **changes})


def fill(w: ArtifactWriter) -> None:
    """The least that a split holds."""
    for name in ("split_name", "strategy", "seed", "unit", "dataset_digest"):
        w.attr(name, "x")
    w.column("visible", np.zeros(3, bool))
    w.column("rank", np.arange(3))
    w.column("labelled_ref_id", np.zeros(0, int))
    w.json("summary", {})


def run(out: Path, dataset: Path, config: Config | None = None, **changes: Any) -> StageResult:
    """A whole small stage."""
    work = job(out, dataset, config, **changes)
    settled = work.settled()
    if settled is not None:
        return settled
    with work.writer() as w:
        for name in ("split_name", "strategy", "seed", "unit"):
            w.attr(name, "x")
        w.attr("dataset_digest", work.artifact("dataset").digest)
        w.column("visible", np.zeros(3, bool))
        w.column("rank", np.arange(3))
        w.column("labelled_ref_id", np.zeros(0, int))
        w.json("summary", {"kept": 3})
    return work.result({"kept": 3})


@pytest.fixture
def dataset(write_sample: Write) -> Path:
    return write_sample("dataset")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "split.h5"


def test_first_written_then_up_to_date(dataset: Path, out: Path) -> None:
    first = run(out, dataset)
    again = run(out, dataset, Config(device="cuda", workers=8))
    assert (first.status, again.status) == ("written", "up-to-date")
    assert first.digest == again.digest
    assert first.summary == again.summary == {"kept": 3}
    assert first.reasons == (f"{out} does not exist",)


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"ratio": 0.05}, "ratio: 0.1 -> 0.05"),
        ({"strategy": "list"}, "strategy: random -> list"),
        ({"names": ("val", "train")}, "names: ['train'] -> ['val', 'train']"),
        ({"count": 4}, "count: None -> 4"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"keep": True}, "keep: False -> True"),
    ],
)
def test_every_semantic_field_makes_it_stale(
    dataset: Path, out: Path, changed: dict[str, Any], fact: str
) -> None:
    run(out, dataset)
    before = out.read_bytes()
    config = replace(Config(), **changed)
    with pytest.raises(StaleOutputError, match="exists and was made from something else") as caught:
        run(out, dataset, config)
    assert caught.value.facts == (fact,)
    assert "--force" in str(caught.value.hint)
    assert caught.value.exit_code == 3
    assert out.read_bytes() == before
    assert run(out, dataset, config, options=RunOptions(force=True)).reasons == ("--force was given",)


def test_every_field_of_the_test_is_flipped_above() -> None:
    semantic = {"ratio", "strategy", "names", "count", "seed", "keep"}
    assert semantic | {"device", "workers"} == set(Config.__dataclass_fields__)


def test_other_inputs_version_and_files_make_it_stale(
    write_sample: Write, dataset: Path, out: Path, tmp_path: Path
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("1")
    run(out, dataset, external={"list": listing})
    assert run(out, dataset, external={"list": listing}).status == "up-to-date"
    listing.write_text("2")
    other = write_sample("dataset", "other.h5", value=1)
    with pytest.raises(StaleOutputError) as caught:
        run(out, other, version=2, external={"list": listing})
    facts = caught.value.facts
    assert facts[0] == "stage version: 1 -> 2"
    assert [f.split(":")[0] for f in facts[1:]] == ["dataset", "list"]


def test_the_same_content_made_again_is_up_to_date(write_sample: Write, dataset: Path, out: Path) -> None:
    run(out, dataset)
    write_sample("dataset", provenance={"stage": "made on another day"})
    os.utime(dataset, (2e9, 2e9))
    assert run(out, dataset).status == "up-to-date"
    assert out.stat().st_mtime < dataset.stat().st_mtime  # touched: now, not the input's future


def test_up_to_date_tells_make_by_the_time_stamp(dataset: Path, out: Path) -> None:
    run(out, dataset)
    os.utime(out, (1e9, 1e9))
    run(out, dataset)
    assert out.stat().st_mtime >= dataset.stat().st_mtime


def test_the_cache_key_is_pinned() -> None:
    # A change here makes every existing output stale: it needs a reason and a line in the CHANGELOG.
    key = fingerprint(
        "split-masks", 1, {"ratio": 0.1, "names": ["a"]}, {"dataset": "d" * 64}, {"list": "e" * 64}
    )
    assert key == "e3e4747727a5783959e2183adfc08a9072d3d74f910b73074394706af64d2e0a"


def test_dry_runs_write_nothing(dataset: Path, out: Path) -> None:
    options = RunOptions(dry_run=True)
    result = run(out, dataset, options=options)
    assert (result.status, result.reasons) == ("would-run", (f"{out} does not exist",))
    assert not out.exists()
    run(out, dataset)
    os.utime(out, (1e9, 1e9))
    assert run(out, dataset, options=options).status == "up-to-date"
    assert out.stat().st_mtime == 1e9
    forced = run(out, dataset, options=RunOptions(dry_run=True, force=True))
    assert (forced.status, forced.reasons) == ("would-run", ("--force was given",))
    with pytest.raises(StaleOutputError, match="made from something else"):
        run(out, dataset, Config(seed=5), options=options)


def test_a_damaged_output_is_replaced_only_with_force(dataset: Path, out: Path) -> None:
    run(out, dataset)
    out.write_bytes(out.read_bytes()[:2000])
    with pytest.raises(StaleOutputError, match="is no split artifact that can be read"):
        run(out, dataset)
    assert run(out, dataset, options=RunOptions(force=True)).status == "written"


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_is_not_ours_is_never_replaced(dataset: Path, out: Path, force: bool) -> None:
    out.write_text("my thesis")
    with pytest.raises(StaleOutputError, match="exists and is not an artifact"):
        run(out, dataset, options=RunOptions(force=force))
    assert out.read_text() == "my thesis"


def test_outputs_that_cannot_be_written_are_found_before_the_work(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        job(tmp_path, dataset)
    with pytest.raises(UsageError, match=r"--out .* is also an input"):
        job(dataset, dataset)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        job(tmp_path / "file" / "a.h5", dataset)


def test_an_empty_file_is_somebodys(dataset: Path, out: Path) -> None:
    out.touch()
    with pytest.raises(StaleOutputError, match="exists and is empty") as caught:
        run(out, dataset)
    assert caught.value.hint is not None and "--force" in caught.value.hint
    assert out.stat().st_size == 0
    assert run(out, dataset, options=RunOptions(force=True)).status == "written"


def test_what_is_up_to_date_needs_no_permission(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(out, dataset)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run(out, dataset).status == "up-to-date"
    with pytest.raises(UsageError, match="no permission in"):
        run(out.with_name("other.h5"), dataset)


def test_names_that_are_no_utf8_are_stored_escaped(dataset: Path, tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9p")
    argv = ("seqres", folder, "half a pair \ud83d", "nul \0")
    config = replace(Config(), names=(os.fsdecode(b"tr\xe4in"),))
    run(Path(folder) / "o.h5", dataset, config, options=RunOptions(argv=argv))
    with open_artifact(Path(folder) / "o.h5") as a:
        record = a.provenance
    assert record["argv"] == ["seqres", f"{tmp_path}/d\\xe9p", "half a pair \\ud83d", "nul \0"]
    assert record["config"]["names"]["value"] == ["tr\\xe4in"]
    assert run(Path(folder) / "o.h5", dataset, config).status == "up-to-date"


def test_attributes_named_after_odd_files_are_stored_escaped(dataset: Path, out: Path) -> None:
    work = job(out, dataset)
    with work.writer() as w:
        fill(w)
        w.attr("name", "caf\udce9")
        w.note_attr("images", ["caf\udce9", "plain"])
    with open_artifact(out) as a:
        assert (a.attrs["name"], a.attrs["images"]) == ("caf\\xe9", ["caf\\xe9", "plain"])


def test_a_record_that_fails_does_not_cost_the_result(
    dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(out, dataset)
    assert work.settled() is None
    with work.writer() as w:
        fill(w)
        work.device = object()  # type: ignore[assignment]  # nothing that JSON knows
    with open_artifact(out) as a:
        assert a.provenance["stage"] == "split-masks"
        assert "cannot store object" in a.provenance["incomplete"]

    other = job(out.with_name("other.h5"), dataset)
    with other.writer() as w:
        fill(w)
        monkeypatch.setattr(StageJob, "provenance", lambda self: 1 / 0)
    with open_artifact(other.out) as a:
        assert a.provenance["incomplete"] == "ZeroDivisionError: division by zero"


def test_inputs_are_checked(tmp_path: Path, write_sample: Write, out: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such file: .*nothing\.h5"):
        job(out, tmp_path / "nothing.h5")
    with pytest.raises(ArtifactError, match="is a split artifact, expected dataset"):
        job(out, write_sample("split", "s.h5"))
    with pytest.raises(ArtifactError, match=r"no such file: .*list\.txt") as caught:
        job(out, write_sample("dataset"), external={"annotations": tmp_path / "list.txt"})
    assert caught.value.facts == ("needed as annotations",)


def test_inputs_must_belong_together(write_sample: Write, dataset: Path, out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.h5"
    run(mine, dataset)
    together = job(out, dataset, inputs={"dataset": (dataset, "dataset"), "split": (mine, "split")})
    together.require_same("dataset_digest", "split", "dataset")
    other = write_sample("dataset", "other.h5", value=1)
    apart = job(out, dataset, inputs={"dataset": (other, "dataset"), "split": (mine, "split")})
    for pair in (("split", "dataset"), ("dataset", "split")):
        with pytest.raises(ArtifactError, match=r"mine\.h5 was not made from .*other\.h5") as caught:
            apart.require_same("dataset_digest", *pair)
        assert caught.value.hint == f"make it again: seqres split-masks … --out {mine} --force"
        assert len(caught.value.facts) == 2
    sample = write_sample("split", "sample.h5")
    strangers = job(out, dataset, inputs={"a": (mine, "split"), "b": (sample, "split")})
    with pytest.raises(ArtifactError, match=r"mine\.h5 and .*sample\.h5 differ in dataset"):
        strangers.require_same("dataset_digest", "a", "b")


def test_the_provenance_tells_everything(dataset: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("12345")
    options = RunOptions(argv=("seqres", "split-masks"), origins={"ratio": "flag", "seed": "default"})
    run(out, dataset, Config(ratio=0.2, seed=9), options=options, external={"list": tmp_path / "list.txt"})
    with open_artifact(out, "split") as artifact:
        record = artifact.provenance
        digest = artifact.attrs["dataset_digest"]
    assert record["stage"] == "split-masks"
    assert record["seed"] == 9
    assert record["argv"] == ["seqres", "split-masks"]
    assert record["config"]["ratio"] == {"value": 0.2, "origin": "flag", "semantic": True}
    assert record["config"]["device"] == {"value": "auto", "origin": "call", "semantic": False}
    assert record["inputs"] == [
        {"role": "dataset", "path": str(dataset), "kind": "dataset", "digest": digest}
    ]
    assert record["external"][0]["size"] == 5
    assert record["versions"]["h5py"]
    assert record["started_utc"] <= record["ended_utc"]
