"""The released networks with weights by rule, and the recipe files, through `scripts/check_golden.py`."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_checks import run
from golden_checks.models import check_model, compare_projections
from golden_checks.table import Report, Row, lines
from golden_checks.weights import released_state

CASES = ("pres_rec_patched", "pres_res12", "seqtr_multi12", "seqtr_rec", "seqtr_res12")


def assert_agrees(report: Report) -> None:
    assert report.rows
    assert all(r.ok for r in report.rows), "\n".join(lines(report.rows, every=False))


@pytest.mark.parametrize("name", CASES)
def test_every_quantity_of_a_model_case(golden_dir: Path, name: str) -> None:
    report = check_model(golden_dir, golden_dir / "models" / f"{name}.json")
    assert_agrees(report)
    quantities = {r.quantity for r in report.rows}
    assert {"memory", "targets", "logits", "loss", "gradient norms (worst, relative)"} <= quantities
    assert any(q.startswith("greedy") and q.endswith("tokens") for q in quantities)
    assert ("PMCA bias, layer 0" in quantities) == name.startswith("pres")


@pytest.mark.parametrize("name", sorted(run.CHECKS))
def test_every_other_file(golden_dir: Path, name: str) -> None:
    found = dict(run.cases(golden_dir))
    assert_agrees(found[name]())


@pytest.mark.parametrize(
    ("errors", "agrees"),
    [([1e-5] * 30 + [0.009], True), ([1e-5] * 30 + [0.1], False), ([2e-3] * 31, False), ([np.nan], False)],
)
def test_projections_bear_a_flipped_relu_and_no_wrong_formula(errors: list[float], agrees: bool) -> None:
    report = Report("case")
    compare_projections(report, errors)
    assert all(r.ok for r in report.rows) == agrees


def slice_of(golden_dir: Path, target: Path, name: str, keep: slice, drop: tuple[str, ...]) -> Path:
    """A folder with one case cut out of a golden one; keys that begin with `drop` are left out."""
    (target / "models").mkdir(parents=True)
    (target / "weights").symlink_to(golden_dir / "weights")
    info = json.loads((golden_dir / "models" / f"{name}.json").read_text())
    with np.load(golden_dir / "models" / f"{name}.npz") as stored:
        data = {
            k: v if k.startswith("gauss") else v[keep] for k, v in stored.items() if not k.startswith(drop)
        }
    np.savez(target / "models" / "cut.npz", **data)
    lists = {k: v[keep] for k, v in info.items() if k.startswith(("pred_masks", "train_pred_masks"))}
    info = {k: v for k, v in info.items() if not k.startswith((*drop, "vis"))} | lists
    (target / "models" / "cut.json").write_text(json.dumps(info))
    return target / "models" / "cut.json"


def test_a_batch_of_one_and_a_greedy_only_case(golden_dir: Path, tmp_path: Path) -> None:
    # picture 0 fills the batch's canvas, so that alone it must give what it gave in the batch
    one = slice_of(golden_dir, tmp_path / "one", "seqtr_multi12", slice(0, 1), ("loss", "grad"))
    report = check_model(tmp_path / "one", one)
    assert_agrees(report)
    assert "logits" in {r.quantity for r in report.rows}
    greedy = slice_of(
        golden_dir,
        tmp_path / "greedy",
        "pres_res12",
        slice(None),
        ("loss", "grad", "tf_", "targets", "gauss", "train"),
    )
    report = check_model(tmp_path / "greedy", greedy)
    assert_agrees(report)
    assert "logits" not in {r.quantity for r in report.rows}
    assert "greedy contour tokens" in {r.quantity for r in report.rows}


def test_the_script_fails_on_a_wrong_number_and_on_nothing(
    golden_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import check_golden

    def script(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["check_golden.py", *arguments])
        return check_golden.main(), capsys.readouterr().out

    shutil.copytree(golden_dir / "geometry", tmp_path / "bad" / "geometry", copy_function=shutil.copy)
    path = tmp_path / "bad" / "geometry" / "loss_weights.json"
    path.chmod(0o644)
    code, text = script(str(tmp_path / "bad"), "--only", "loss_weights")
    assert code == 0
    assert "6 of 6 quantities agree" in text
    content = json.loads(path.read_text())
    content["rec"]["weight"][0][0] = 1.4
    path.write_text(json.dumps(content))
    code, text = script(str(tmp_path / "bad"), "--only", "loss_weights")
    assert code == 1
    assert "0.1" in next(line for line in text.splitlines() if " NO" in line)
    (tmp_path / "bad" / "geometry" / "news.json").write_text("{}")
    code, text = script(str(tmp_path / "bad"), "--only", "no such case")
    assert code == 1
    assert "news.json is left out" in text


def test_a_case_that_raises_is_a_miss() -> None:
    def broken() -> Report:
        raise KeyError("tokens")

    rows = run.guarded("case", broken).rows
    assert not rows[0].ok
    assert "KeyError" in lines(rows)[1]
    assert not Row("case", "a number", float("nan"), 1.0).ok


@pytest.mark.slow
def test_import_and_export_of_the_whole_released_model_lose_nothing(golden_dir: Path, tmp_path: Path) -> None:
    from stages import export_weights, import_weights
    from stages.weights.model_file import load_model

    state = released_state(golden_dir, "Partial-RES", "segm", 12)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "segm_best.pth"
    )
    words = ["PAD", "UNK", "CLS", *(f"word{i}" for i in range(47))]
    (tmp_path / "token_to_ix.pkl").write_bytes(pickle.dumps({w: i for i, w in enumerate(words)}))
    config = import_weights.Config(vocabulary=str(tmp_path / "token_to_ix.pkl"), pixel_range="0-1")
    import_weights.run(config, source=tmp_path / "segm_best.pth", out=tmp_path / "a.h5")
    (tmp_path / "segm_best.pth").unlink()
    export_weights.run(export_weights.Config(), model=tmp_path / "a.h5", out=tmp_path / "folder")
    import_weights.run(import_weights.Config(), source=tmp_path / "folder", out=tmp_path / "b.h5")
    shutil.rmtree(tmp_path / "folder")
    with np.load(golden_dir / "models" / "pres_res12.npz") as stored:
        data = dict(stored)
    logits = []
    for name in ("a.h5", "b.h5"):
        model = load_model(tmp_path / name).model
        tokens = torch.from_numpy(data["tokens"])
        images, sizes = torch.from_numpy(data["img_u8"]).float() / 255, torch.from_numpy(data["img_shape"])
        with torch.inference_mode():
            targets = torch.from_numpy(data["targets"])
            logits.append(model(images, sizes, torch.arange(3), tokens, tokens > 0, targets).logits)
    assert torch.equal(*logits)
    assert float((logits[0] - torch.from_numpy(data["tf_logits"])).abs().max()) < 1e-3
