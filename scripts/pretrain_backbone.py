"""Train the small backbones that ship with seqres on procedural scenes that no data set contains.

The pretext is detection, as for the YOLOv3 trunk of SeqTR, plus self-supervision for detail; no mask is used:
  - at every cell near an object's centre: its shape, colour, size and box (both at stride 8 and at stride 16);
  - from the stride-8 map alone: the clean picture at half resolution and its edges, from a noisy picture.

Scenes come from the seed sequence (PRETEXT_SEED, index), which `prepare-data` never uses.

    python scripts/pretrain_backbone.py --scenes 12000 --epochs 10 --out stages/weights/shipped/refshapes_backbone.safetensors

For the demo's pictures, the one of shapes goes on with objects of few kinds:

    python scripts/pretrain_backbone.py --world everyday --init stages/weights/shipped/refshapes_backbone.safetensors \
        --scenes 6000 --epochs 5 --out stages/weights/shipped/objects_backbone.safetensors

and that goes on with all kinds of objects:

    python scripts/pretrain_backbone.py --world objects --init stages/weights/shipped/objects_backbone.safetensors \
        --scenes 12000 --epochs 5 --out stages/weights/shipped/objects-all_backbone.safetensors
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig

from stages.data.refshapes.folder import world
from stages.data.refshapes.shapes import COLOURS
from stages.data.transforms import colour_noise
from stages.models.config import ImageConfig
from stages.models.presets import preset

PRETEXT_SEED = 77_001
SIZE = 160
MAX_OBJECTS = 5
SIZES = ("small", "large")


def make_scene(job: tuple[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (160, 160, 3) uint8, boxes (5, 4) float32 (NaN = none), labels (5, 3) int64 of a scene (world, index)."""
    shown = world(job[0])
    scene = shown.scene(np.random.default_rng([PRETEXT_SEED, job[1]]), SIZE)
    boxes = np.full((MAX_OBJECTS, 4), np.nan, np.float32)
    labels = np.zeros((MAX_OBJECTS, 3), np.int64)
    for k, o in enumerate(scene.objects[:MAX_OBJECTS]):
        boxes[k] = o.box_xyxy
        labels[k] = (shown.shapes.index(o.shape), list(COLOURS).index(o.colour), SIZES.index(o.size_name))
    return scene.image, boxes, labels


class Pretext(nn.Module):
    """Backbone, a detection head at strides 8 and 16, and a picture decoder on the stride-8 map."""

    def __init__(self, classes: tuple[int, int, int]) -> None:
        """classes: numbers of kinds, colours and sizes."""
        super().__init__()
        self.backbone = AutoBackbone.from_config(
            AutoConfig.for_model(**preset("refshapes-small").vision.settings)
        )
        n = sum(classes) + 1 + 4
        self.heads = nn.ModuleList(nn.Conv2d(c, n, 1) for c in self.backbone.channels[1:])
        self.picture = nn.Conv2d(self.backbone.channels[1], 4 * 16, 1)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """images (B, 3, H, W) -> head outputs at strides 8 and 16, picture + edges (B, 4, H/2, W/2)."""
        _, fine, coarse = self.backbone(images).feature_maps
        heads = [head(x) for head, x in zip(self.heads, (fine, coarse), strict=True)]
        return heads, F.pixel_shuffle(self.picture(fine), 4)


def assign(boxes: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Which object each cell speaks for: the nearest centre (in box sizes) within the middle 60 % of its box.

    boxes (B, K, 4) pixels, NaN = none -> owner (B, h, w) int64 (-1 = none), ltrb (B, h, w, 4) in strides.
    """
    n = SIZE // stride
    centre = (torch.arange(n) + 0.5) * stride
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    b = boxes[:, :, None, None]  # (B, K, 1, 1, 4)
    middle_x, middle_y = (b[..., 0] + b[..., 2]) / 2, (b[..., 1] + b[..., 3]) / 2
    away_x = (x - middle_x).abs() / (b[..., 2] - b[..., 0])
    away_y = (y - middle_y).abs() / (b[..., 3] - b[..., 1])
    away = torch.maximum(away_x, away_y).nan_to_num(9.0)  # (B, K, h, w)
    nearest, owner = away.min(1)
    owner = owner.masked_fill(nearest > 0.3, -1)
    mine = boxes.gather(1, owner.clamp(min=0).flatten(1)[..., None].expand(-1, -1, 4)).view(*owner.shape, 4)
    ltrb = torch.stack((x - mine[..., 0], y - mine[..., 1], mine[..., 2] - x, mine[..., 3] - y), -1) / stride
    return owner, ltrb


def detection_loss(
    out: Tensor, boxes: Tensor, labels: Tensor, stride: int, classes: tuple[int, int, int]
) -> dict[str, Tensor]:
    owner, ltrb = assign(boxes, stride)
    out = out.permute(0, 2, 3, 1)
    *logits, objectness, box = out.split((*classes, 1, 4), -1)
    mine = owner >= 0
    target = labels.gather(1, owner.clamp(min=0).flatten(1)[..., None].expand(-1, -1, 3)).view(
        *owner.shape, 3
    )[mine]
    losses = {
        name: F.cross_entropy(x[mine], target[:, i])
        for i, (name, x) in enumerate(zip(("shape", "colour", "size"), logits, strict=True))
    }
    losses["object"] = F.binary_cross_entropy_with_logits(objectness[..., 0], mine.float())
    losses["box"] = F.smooth_l1_loss(box[mine], ltrb[mine] / (SIZE / stride / 4))
    losses["accuracy"] = (logits[0][mine].argmax(-1) == target[:, 0]).float().mean().detach()
    return losses


def edges(images: Tensor) -> Tensor:
    """(B, 3, h, w) -> (B, 1, h, w) largest colour step to the right or below."""
    right = F.pad((images[..., 1:] - images[..., :-1]).abs(), (0, 1))
    below = F.pad((images[..., 1:, :] - images[..., :-1, :]).abs(), (0, 0, 0, 1))
    return torch.maximum(right, below).amax(1, keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=("shapes", "everyday", "objects"), default="shapes")
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(PRETEXT_SEED)
    with multiprocessing.Pool() as pool:
        made = pool.map(make_scene, [(args.world, index) for index in range(args.scenes)], chunksize=64)
    pictures = np.stack([m[0] for m in made])
    boxes, labels = (
        torch.from_numpy(np.stack([m[1] for m in made])),
        torch.from_numpy(np.stack([m[2] for m in made])),
    )
    held_out = max(args.scenes // 20, 1)
    classes = (len(world(args.world).shapes), len(COLOURS), len(SIZES))
    model = Pretext(classes)
    if args.init:
        model.backbone.load_state_dict(load_file(args.init))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    steps = (args.scenes - held_out) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, args.lr, total_steps=steps * args.epochs, pct_start=0.1
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (ImageConfig.mean, ImageConfig.std))
    rng = np.random.default_rng(PRETEXT_SEED)

    def losses(index: np.ndarray, *, noisy: bool) -> dict[str, Tensor]:
        chosen = pictures[index]
        shown = np.stack([colour_noise(rng, p, 0.15) for p in chosen]) if noisy else chosen
        images = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
        clean = F.avg_pool2d(images, 2)
        if noisy:
            images = images + 0.04 * torch.randn_like(images)
        heads, drawn = model(((images - mean) / std).contiguous(memory_format=torch.channels_last))
        parts = {}
        for stride, out in zip((8, 16), heads, strict=True):
            parts.update(
                {
                    f"{k}/{stride}": v
                    for k, v in detection_loss(out, boxes[index], labels[index], stride, classes).items()
                }
            )
        parts["picture"] = (drawn[:, :3] - clean).abs().mean()
        parts["edges"] = (drawn[:, 3:] - edges(clean)).abs().mean()
        return parts

    weight = {
        "object": 1.0,
        "box": 2.0,
        "shape": 1.0,
        "colour": 0.5,
        "size": 0.5,
        "picture": 4.0,
        "edges": 8.0,
        "accuracy": 0.0,
    }
    for epoch in range(args.epochs):
        started, model_loss = time.perf_counter(), 0.0
        model.train()
        for batch in (held_out + rng.permutation(args.scenes - held_out))[: steps * args.batch].reshape(
            steps, args.batch
        ):
            parts = losses(batch, noisy=True)
            loss = torch.stack([weight[k.split("/")[0]] * v for k, v in parts.items()]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            model_loss += loss.item()
        model.eval()
        with torch.inference_mode():
            parts = losses(np.arange(held_out), noisy=False)
        numbers = " ".join(f"{k} {float(v):.3f}" for k, v in parts.items())
        print(
            f"epoch {epoch + 1} loss {model_loss / steps:.3f} {time.perf_counter() - started:.0f} s | held out: {numbers}",
            flush=True,
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        weights = {
            k: v.half().contiguous() if v.is_floating_point() else v
            for k, v in model.backbone.state_dict().items()
        }
        save_file(weights, args.out)


if __name__ == "__main__":
    main()
