"""`seqres reproduce` from nothing to its report, at the scale that only shows that everything fits together."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from seqres_cli.main import main


@pytest.mark.slow
def test_the_paper_s_method_from_data_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tiny"
    command = [
        "reproduce", "refshapes", "--scale", "tiny", "--rows", "paper", "--seeds", "0", "--jobs", "2",
        "--out", str(out), "--json",
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"made": 9}
    rec, paper = record["rows"]
    assert rec["spread"]["acc@0.5"]["n"] == 1
    numbers = paper["seeds"]["0"]
    for key in ("miou", "oiou", "pr@0.5", "filled_box", "ellipse", "pseudo_all", "pseudo_kept_share"):
        assert 0 <= numbers[key] <= 1, key
    # of the data, not of the model: shapes that neither their box nor an ellipse describes
    assert 0.4 < numbers["pseudo_ellipse"] < 0.65 and 0.4 < numbers["pseudo_filled_box"] < 0.65
    assert numbers["pseudo_referents"] > 50
    page = out / "refshapes" / "index.html"
    assert record["report"] == str(page) and "the paper's method" in html.unescape(page.read_text("utf-8"))
    assert (out / "refshapes" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"cached": 9}
