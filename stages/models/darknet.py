"""DarkNet-53: the YOLOv3 trunk and its first neck layers, as SeqTR uses it (METHOD.md section 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

# Module list of the trunk: ("conv", in, out, kernel, stride) or ("residual", channels, blocks).
LAYERS: tuple[tuple[str, int, int, int, int] | tuple[str, int, int], ...] = (
    ("conv", 3, 32, 3, 1),
    ("conv", 32, 64, 3, 2),
    ("residual", 64, 1),
    ("conv", 64, 128, 3, 2),
    ("residual", 128, 2),
    ("conv", 128, 256, 3, 2),
    ("residual", 256, 8),  # output at stride 8
    ("conv", 256, 512, 3, 2),
    ("residual", 512, 8),  # output at stride 16
    ("conv", 512, 1024, 3, 2),
    ("residual", 1024, 4),
    ("bottleneck", 1024, 2),  # YOLOv3 neck: the same pairs of convolutions without the shortcut
    ("conv", 1024, 512, 1, 1),
    ("conv", 512, 1024, 3, 1),  # output at stride 32
)
OUTPUTS = (6, 8, 13)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, leaky ReLU 0.1."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.bn(self.conv(x)), 0.1)


class ResidualStack(nn.Module):
    """`blocks` pairs of 1x1 (half width) and 3x3 convolutions, with or without the shortcut."""

    def __init__(self, channels: int, blocks: int, *, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.module_list = nn.ModuleList(
            nn.ModuleList([ConvBlock(channels, channels // 2, 1), ConvBlock(channels // 2, channels, 3)])
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.module_list:
            assert isinstance(block, nn.ModuleList)
            out = block[1](block[0](x))
            x = x + out if self.shortcut else out
        return x


class DarkNet53(nn.Module):
    """Maps at strides 8, 16, 32 with 256, 512, 1024 channels."""

    channels = (256, 512, 1024)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kind, *numbers in LAYERS:
            if kind == "conv":
                layers.append(ConvBlock(*numbers))
            else:
                layers.append(ResidualStack(*numbers, shortcut=kind == "residual"))
        self.darknet = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (I, 3, H, W), H and W multiples of 32 -> [(I, 256, H/8, W/8), (I, 512, …), (I, 1024, …)]."""
        maps, x = [], images
        for i, layer in enumerate(self.darknet):
            x = layer(x)
            if i in OUTPUTS:
                maps.append(x)
        return maps
