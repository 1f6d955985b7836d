"""`seqres report`, `seqres doctor`, `seqres --version --json` as they are typed."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stages
from stages.artifacts.schema import KINDS
from tests.oracles.small_artifacts import digest, write_dataset, write_pseudo

Seqres = Callable[..., Any]
RING = [[5, 10], [25, 10], [25, 40]]


def test_a_report_is_written_and_opened(
    seqres: Seqres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    data = write_dataset(tmp_path / "data.h5", ["train"], pictures=True)
    out = tmp_path / "page"
    done = seqres("report", data, "--out", out, "--open", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["path"] == str(out / "index.html")
    assert opened == [(out / "index.html").as_uri()]
    assert seqres("report", data).err.startswith("error: report needs --out")


def test_decisions_from_the_command_line(seqres: Seqres, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.h5", ["train"])
    pseudo = write_pseudo(tmp_path / "pseudo.h5", data, [(0, 0, 0.9, RING)])
    path = tmp_path / "decisions.json"
    entry = {"ref_id": 1, "verdict": "accept"}
    content = {
        "format": "seqres-decisions",
        "version": 1,
        "dataset_digest": digest(data),
        "decisions": [entry],
    }
    path.write_text(json.dumps(content))
    given = ("--dataset", data, "--pseudo", pseudo, "--decisions", path, "--json")
    points = json.loads(seqres("resample-points", *given, "--out", tmp_path / "points.h5").out)
    assert points["summary"]["kept"] == points["summary"]["review"]["accepted"] == 1
    split = json.loads(
        seqres("split-masks", *given, "--count", 1, "--accepted-masks", "--out", tmp_path / "s.h5").out
    )
    assert split["summary"]["masks_seen"] == 1
    path.write_text(json.dumps({**content, "dataset_digest": "f" * 64}))
    refused = seqres("resample-points", *given, "--out", tmp_path / "other.h5")
    assert refused.code == 3
    assert "decisions.json was not decided about" in refused.err


def test_the_doctor_tells_what_a_bug_report_needs(seqres: Seqres, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(seqres("doctor", "--json").out)
    assert told["ok"] is True
    assert told["seqres"] == stages.__version__
    assert told["reads"] == KINDS
    assert told["devices"][0]["device"] == "cpu"
    assert told["threads"]["torch"] >= 1
    assert told["libraries"]["torch"] == importlib.metadata.version("torch")
    wanted = [
        "numpy>=2",
        "no-such-library>=1",
        'absent-part>=3 ; extra == "more"',
        "h5py>=3; extra == 'more'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    done = seqres("doctor")
    assert done.code == 1
    assert "  no-such-library  MISSING" in done.out
    assert "  more: pip install 'absent-part>=3'" in done.out


def test_the_version_with_its_libraries(seqres: Seqres) -> None:
    told = json.loads(seqres("--version", "--json").out)
    assert told["version"] == stages.__version__
    assert {"torch", "h5py", "transformers"} <= set(told["libraries"])


def test_citation_and_issue_templates(project_root: Path) -> None:
    citation = (project_root / "CITATION.cff").read_text("utf-8")
    version = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in citation
    for title in ("Learning to Segment Every Referring Object Point by Point", "SeqTR", "MDETR", "SiRi"):
        assert title in citation
    templates = project_root / ".github" / "ISSUE_TEMPLATE"
    for name in ("bug.yml", "request.yml"):
        assert "`seqres doctor`" in (templates / name).read_text("utf-8")
