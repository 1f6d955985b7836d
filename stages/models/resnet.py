"""The ResNet of basic blocks (He et al., CVPR 2016) that the small models see with.

`transformers` has the same network, but importing its classes takes twice as long as importing torch and brings its
compiler and its distributed code along. Names of parameters and results are those of `transformers.ResNetBackbone`
(tests/unit/models/test_resnet.py), so weights go both ways. Other layers and activations are left to `transformers`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "embedding_size": 64,
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (3, 4, 6, 3),
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
}


def is_basic_resnet(settings: Mapping[str, Any]) -> bool:
    """Whether these settings of a transformers configuration describe a network of this file."""
    s = {**_DEFAULTS, **settings}
    basic = s["layer_type"] == "basic" and s["hidden_act"] == "relu" and s["num_channels"] == 3
    return bool(s.get("model_type") == "resnet" and basic and s.get("out_features"))


def basic_strides(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Pixels of the image to a cell of each wanted map, finest first: the stem has 4, each later stage doubles."""
    first = 2 if {**_DEFAULTS, **settings}["downsample_in_first_stage"] else 1
    levels = [0 if name == "stem" else int(name.removeprefix("stage")) for name in settings["out_features"]]
    return tuple(4 if not k else 4 * first * 2 ** (k - 1) for k in levels)


class _Convolution(nn.Module):
    """Convolution and batch norm, without an activation."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(after)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.normalization(self.convolution(x))
        return normalised


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else _Convolution(before, after, 1, stride)
        self.layer = nn.ModuleList([_Convolution(before, after, 3, stride), _Convolution(after, after, 3, 1)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layer
        return torch.relu(second(torch.relu(first(x))) + self.shortcut(x))


class BasicResNet(nn.Module):
    """Stem of stride 4, then stages, each but the first of stride 2.

    Attributes:
        channels: of the maps that `forward` returns.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        s = {**_DEFAULTS, **settings}
        widths = (s["embedding_size"], *s["hidden_sizes"])
        self.embedder = nn.ModuleDict({"embedder": _Convolution(s["num_channels"], widths[0], 7, 2)})
        stages = []
        for k, depth in enumerate(s["depths"]):
            stride = 2 if k or s["downsample_in_first_stage"] else 1
            blocks = [_Block(widths[k], widths[k + 1], stride)]
            blocks += [_Block(widths[k + 1], widths[k + 1], 1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
        self.encoder = nn.ModuleDict(
            {"stages": nn.ModuleList(nn.ModuleDict({"layers": layers}) for layers in stages)}
        )
        self._layers = stages  # the same modules, without the names that lead to them
        names = ["stem", *(f"stage{k + 1}" for k in range(len(stages)))]
        self._wanted = [names.index(name) for name in s["out_features"]]
        self.channels = tuple(int(widths[k]) for k in self._wanted)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (I, 3, H, W) normalised -> the wanted maps, finest first."""
        x = torch.relu(self.embedder["embedder"](images))
        maps = [nn.functional.max_pool2d(x, 3, 2, 1)]
        for layers in self._layers:
            maps.append(layers(maps[-1]))
        return [maps[k] for k in self._wanted]
