"""`make bench`: every script's rows in one table, whatever one of them does."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

GOOD = """print("2 threads")
print("| id | work, 500 referents | ours (ms) | ratio | |")
print("|---|---|---|---|---|")
print("| D1 | decode | 3.0 | 2.00x | misses |")
print()
print("| step | faster |")
print("|---|---|")
print("| train | 1.5x |")
"""


@pytest.fixture
def bench(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", project_root / "scripts" / "bench.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {"geometry", "gpu", "loader", "model", "training"} <= set(module.NAMES)
    (tmp_path / "bench_bad.py").write_text("print('half')\nraise SystemExit(4)\n")
    (tmp_path / "bench_good.py").write_text(GOOD)
    monkeypatch.setattr(module, "SCRIPTS", tmp_path)
    monkeypatch.setattr(module, "NAMES", ["bad", "good", "gpu", "training"])
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "out")])
    return module


def test_rows_of_all_scripts_come_together(bench: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 1, "one script failed"
    lines = (tmp_path / "out" / "bench.md").read_text().splitlines()
    assert "| good | D1 | decode | ours (ms): 3.0; ratio: 2.00x; misses |" in lines
    assert "| good |  | train | faster: 1.5x |" in lines
    assert "| good | | 2 threads | |" in lines
    assert "| bad | | **failed** with code 4 | |" in lines
    assert any(line.startswith("| | gpu | X1 ") and "no GPU here" in line for line in lines)
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [script["exit_code"] for script in found["scripts"]] == [4, 0]
    assert found["scripts"][1]["rows"][1] == {"step": "train", "faster": "1.5x"}
    assert set(found["left_out"]) == {"gpu", "training"}


def test_the_rows_of_a_gpu_on_small_sizes(project_root: Path, tmp_path: Path) -> None:
    call = [
        sys.executable,
        "scripts/bench_gpu.py",
        "--device",
        "cpu",
        "--quick",
        "--repeats",
        "1",
        "--json",
        tmp_path / "rows",
    ]
    done = subprocess.run(call, cwd=project_root, text=True, capture_output=True, check=True)
    assert "100.00 % of the tokens of float32 are the textbook's" in done.stdout
    rows = json.loads((tmp_path / "rows").read_text())["rows"]
    assert [row["id"] for row in rows] == ["X1", "X1", "E1", "F1", "X2"]
    assert all(row["reference"] > 0 and row["ours"] > 0 for row in rows)
    assert all("of the matrix limit" in row["note"] for row in rows if row["id"] in ("X1", "X2"))
