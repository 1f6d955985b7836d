"""Weights by rule: every tensor is drawn from a generator seeded by the checksum of its released name."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)


@cache
def _tensor(name: str, shape: tuple[int, ...], kind: str, scale: float, dtype: str) -> Tensor:
    """One tensor. Cached: the released models share most of their names, and with them their values."""
    if kind == "zero":
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    n = noise(name, shape)
    if kind in ("weight", "embedding"):
        value = scale * n
    elif kind == "bias":
        value = 0.02 * n
    elif kind == "norm_weight":
        value = 1 + 0.1 * n
    elif kind in ("norm_bias", "running_mean"):
        value = 0.1 * n
    elif kind == "running_var":
        value = 1 + 0.1 * np.abs(n)
    else:
        raise ValueError(f"unknown kind of tensor {kind!r} for {name}")
    return torch.from_numpy(np.asarray(value, np.float32))


def by_rule(entries: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A manifest (list of name, shape, dtype, kind, scale) -> state dict of released names."""
    return {
        e["name"]: _tensor(
            e["name"], tuple(e["shape"]), e["kind"], float(e.get("scale") or 0.0), e.get("dtype", "float32")
        )
        for e in entries
    }


def released_state(folder: Path, repo: str, config: str, num_ray: int | None) -> dict[str, Tensor]:
    """State dict of weights/<repo>_<config>[_<num_ray>].json."""
    stem = f"{repo}_{config}" + (f"_{num_ray}" if num_ray else "")
    return by_rule(json.loads((folder / "weights" / f"{stem}.json").read_text()))
