"""Pairs of ONNX files that segment: what is bright in the box. Named and shaped as exporters name and shape theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CELLS = 64, 16
Style = Literal["sam", "multimask", "edge-sam", "samexporter", "sam2", "optimum", "points-only"]
STYLES: Sequence[Style] = ("sam", "multimask", "edge-sam", "samexporter", "sam2", "optimum", "points-only")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def write_pair(folder: Path, style: Style = "sam", *, shrunk: float = 0.0) -> Path:
    """encoder.onnx and decoder.onnx; `shrunk`: input pixels by which each mask misses the sides of its box, unless it
    is asked with a mask."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "encoder.onnx", *_encoder(style))
    _save(folder / "decoder.onnx", *_decoder(style, shrunk))
    return folder


def _encoder(style: Style) -> tuple[list, list, list, dict]:
    constants = {"axes": np.array([1]), "half": np.array(127.5, np.float32), "unit": np.array(60, np.float32)}
    if style == "samexporter":  # (H, W, 3), 0 to 255
        inputs = [("input_image", FLOAT, [SIDE, SIDE, 3])]
        constants["first"] = np.array([0])
        nodes = [
            ("Transpose", ["input_image"], ["t"], {"perm": [2, 0, 1]}),
            ("Unsqueeze", ["t", "first"], ["chw"], {}),
            ("Sub", ["chw", "half"], ["centred"], {}),
            ("Div", ["centred", "unit"], ["x"], {}),
        ]
    else:
        name = {"optimum": "pixel_values", "points-only": "pixel_values", "edge-sam": "image"}.get(
            style, "input"
        )
        inputs = [(name, FLOAT, ["batch_size", 3, SIDE, SIDE])]
        nodes = [("Identity", [name], ["x"], {})]
    out = {"sam": "output", "sam2": "image_embed"}.get(style, "image_embeddings")
    nodes += [
        ("ReduceMean", ["x", "axes"], ["grey"], {"keepdims": 1}),
        ("AveragePool", ["grey"], [out], {"kernel_shape": [4, 4], "strides": [4, 4]}),
    ]
    outputs = [(out, FLOAT, [1, 1, CELLS, CELLS])]
    if style == "sam2":
        nodes += [("Identity", ["grey"], ["high_res_feats_0"], {})]
        outputs += [("high_res_feats_0", FLOAT, [1, 1, SIDE, SIDE])]
    return inputs, outputs, nodes, constants


def _decoder(style: Style, shrunk: float) -> tuple[list, list, list, dict]:
    features = "image_embed" if style == "sam2" else "image_embeddings"
    inputs = [(features, FLOAT, [1, 1, CELLS, CELLS])]
    nested = style in ("optimum", "points-only")
    centres = (np.arange(CELLS, dtype=np.float32) + 0.5) * SIDE / CELLS
    constants = {
        "gx": np.broadcast_to(centres, (1, 1, CELLS, CELLS)).copy(),
        "gy": np.broadcast_to(centres[:, None], (1, 1, CELLS, CELLS)).copy(),
        "flat": np.array([-1]), **{f"at{k}": np.array([k]) for k in range(4)},
        "shrunk": np.array(shrunk, np.float32), "scores1": np.full((1, 1), 0.9, np.float32),
        "scores3": np.array([[0.9, 0.8, 0.7]], np.float32), "reach": np.array(20, np.float32),
    }  # fmt: skip
    if nested:
        inputs += [("input_points", FLOAT, [1, "p", "n", 2]), ("input_labels", INT64, [1, "p", "n"])]
        inputs += [("input_boxes", FLOAT, [1, "p", 4])] if style == "optimum" else []
    else:
        inputs += [("point_coords", FLOAT, [1, "n", 2]), ("point_labels", FLOAT, [1, "n"])]
    with_mask = style in ("sam", "multimask", "sam2", "samexporter")
    if with_mask:
        inputs += [("mask_input", FLOAT, [1, 1, CELLS, CELLS]), ("has_mask_input", FLOAT, [1])]
    if style == "sam2":
        inputs += [("high_res_feats_0", FLOAT, [1, 1, SIDE, SIDE])]
    if style in ("sam", "multimask", "samexporter"):
        inputs += [("orig_im_size", FLOAT, [2])]
    corners = "input_boxes" if style == "optimum" else inputs[1][0]
    nodes = [("Reshape", [corners, "flat"], ["c"], {})]
    nodes += [("Gather", ["c", f"at{k}"], [n], {}) for k, n in enumerate(("x1", "y1"))]
    if style == "points-only":
        nodes += [
            ("Sub", ["gx", "x1"], ["dx"], {}), ("Abs", ["dx"], ["adx"], {}), ("Sub", ["reach", "adx"], ["inside"], {}),
        ]  # fmt: skip
    else:
        nodes += [("Gather", ["c", f"at{k}"], [n], {}) for k, n in ((2, "x2"), (3, "y2"))]
        nodes += [
            ("Sub", ["gx", "x1"], ["l"], {}), ("Sub", ["x2", "gx"], ["r"], {}),
            ("Sub", ["gy", "y1"], ["t"], {}), ("Sub", ["y2", "gy"], ["b"], {}),
            ("Min", ["l", "r", "t", "b"], ["near"], {}),
        ]  # fmt: skip
        if with_mask:  # the missing rim comes with the second question
            constants["one"] = np.array(1, np.float32)
            nodes += [
                ("Sub", ["one", "has_mask_input"], ["first"], {}), ("Mul", ["first", "shrunk"], ["rim"], {}),
                ("Sub", ["near", "rim"], ["inside"], {}),
            ]  # fmt: skip
        else:
            nodes += [("Sub", ["near", "shrunk"], ["inside"], {})]
    nodes += [("Min", ["inside", features], ["logits"], {})]
    return _with_outputs(style, inputs, nodes, constants)


def _with_outputs(style: Style, inputs: list, nodes: list, constants: dict) -> tuple[list, list, list, dict]:
    if style in ("optimum", "points-only"):
        constants["second"] = np.array([1])
        nodes += [
            ("Neg", ["logits"], ["other"], {}), ("Concat", ["logits", "other", "other"], ["three"], {"axis": 1}),
            ("Unsqueeze", ["three", "second"], ["pred_masks"], {}), ("Unsqueeze", ["scores3", "second"], ["iou_scores"], {}),
        ]  # fmt: skip
        outputs = [("iou_scores", FLOAT, [1, "p", 3]), ("pred_masks", FLOAT, [1, "p", 3, CELLS, CELLS])]
        return inputs, outputs, nodes, constants
    low = "masks" if style == "edge-sam" else "low_res_masks"
    many = style in ("multimask", "edge-sam")
    if many:
        nodes += [
            ("Neg", ["logits"], ["other"], {}),
            ("Concat", ["other", "logits", "other"], [low], {"axis": 1}),
        ]
        constants["scores3"] = np.array([[0.5, 0.9, 0.5]], np.float32)
    else:
        nodes += [("Identity", ["logits"], [low], {})]
    score = "scores" if style == "edge-sam" else "iou_predictions"
    nodes += [("Identity", ["scores3" if many else "scores1"], [score], {})]
    n = 3 if many else 1
    outputs = [(score, FLOAT, [1, n]), (low, FLOAT, [1, n, CELLS, CELLS])]
    if style in ("sam", "multimask"):  # as SAM's own export, which brings masks to the picture's size as well
        nodes += [("Identity", [low], ["masks"], {})]
        outputs.insert(0, ("masks", FLOAT, ["a", "b", "c", "d"]))
    return inputs, outputs, nodes, constants


def _save(path: Path, inputs: list, outputs: list, nodes: list, constants: dict) -> None:
    used = {name for _, ins, _, _ in nodes for name in ins}
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **more) for op, ins, outs, more in nodes],
        "tiny",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
