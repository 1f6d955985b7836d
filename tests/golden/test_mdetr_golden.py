"""MDETR and SiRi against reference numbers, through the checks of `scripts/check_golden.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from golden_checks import mdetr, run
from golden_checks.table import lines

KINDS = {
    "criterion": "criterion",
    "mask_head": "mask head",
    "small_mdetr": "model",
    "refexp_precision": "precision",
    "siri_state_groups": "state groups",
}


@pytest.mark.parametrize("name", KINDS)
def test_reference_numbers(golden_dir: Path, name: str) -> None:
    path = golden_dir / "mdetr" / f"{name}.json"
    assert mdetr.kind_of(json.loads(path.read_text())) == KINDS[name]
    rows = mdetr.CHECKS[KINDS[name]](path).rows
    assert rows and all(r.ok for r in rows), "\n".join(lines(rows, every=False))


def test_every_case_is_found_by_its_content(golden_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mdetr").mkdir()
    for name in ("another_name.json", "unknown.json"):
        source = (
            {"reference": 1}
            if name == "unknown.json"
            else json.loads((golden_dir / "mdetr/refexp_precision.json").read_text())
        )
        (tmp_path / "mdetr" / name).write_text(json.dumps(source))
    rows, notes = run.check_folder(tmp_path)
    assert {r.case for r in rows} == {"mdetr/another_name"} and all(r.ok for r in rows)
    assert notes == ["mdetr/unknown.json is left out: no check of that name"]
