"""Which input and output of a segmenter's two ONNX files is which: exporters agree on the idea, not on the names.

SAM's own export, MobileSAM, EdgeSAM, samexporter (also SAM 2) and Optimum are told apart by names and shapes alone, from
what the files declare; nothing is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stages.errors import ArtifactError

SIDE = 1024  # pixels of the input, of every published one, where the file leaves it open
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_,
}  # fmt: skip


class Port(Protocol):
    """What onnxruntime tells about an input or output: `shape` has numbers, or texts and None for what is open."""

    name: str
    shape: Sequence[Any]
    type: str


@dataclass(frozen=True)
class EncoderPorts:
    """The picture's input.

    Attributes:
        channels_first: (1, 3, side, side), normalised here if it takes floats; else (side, side, 3) with values 0 to
            255, which the file normalises itself.
        batched: there is a first axis of one picture.
        side: pixels of the longer side; fixed: the file takes no smaller picture, the rest is zeros.
    """

    name: str
    dtype: type[np.generic]
    channels_first: bool
    batched: bool
    side: int
    fixed: bool


@dataclass(frozen=True)
class DecoderPorts:
    """Names of the decoder's inputs and outputs; None: it has none of that kind.

    Attributes:
        features: decoder input -> the encoder's output that it takes.
        nested: points are (1, prompts, points, 2), as in transformers, not (1, points, 2).
        stretched: it comes with features of several sizes, as SAM 2, whose pictures are stretched to a square.
        dtypes: of every input.
    """

    features: Mapping[str, str]
    points: str
    labels: str
    boxes: str | None
    mask: str | None
    has_mask: str | None
    size: str | None
    masks_out: str
    scores_out: str | None
    nested: bool
    stretched: bool
    mask_hw: tuple[int, int] | None
    dtypes: Mapping[str, type[np.generic]] = field(default_factory=dict)


def is_decoder(inputs: Sequence[Port]) -> bool:
    """Whether a file answers prompts."""
    return any("point" in port.name.lower() for port in inputs)


def encoder_ports(inputs: Sequence[Port], outputs: Sequence[Port], file: str) -> EncoderPorts:
    """The picture's input of an image encoder.

    Raises:
        ArtifactError: there is not exactly one input, or it is no picture.
    """
    port = inputs[0]
    shape = list(port.shape)
    batched = len(shape) == 4
    own = shape[1:] if batched else shape
    channels_first = len(own) == 3 and own[0] == 3
    if len(inputs) != 1 or len(own) != 3 or not (channels_first or own[2] == 3) or port.type not in _TYPES:
        raise _unknown(
            file, "is no image encoder: it should take one picture of three channels", inputs, outputs
        )
    sides = own[1:] if channels_first else own[:2]
    numbers = [n for n in sides if isinstance(n, int)]
    if len(set(numbers)) > 1:
        raise _unknown(file, "takes pictures that are no square", inputs, outputs)
    side = numbers[0] if numbers else SIDE
    return EncoderPorts(port.name, _TYPES[port.type], channels_first, batched, side, bool(numbers))


def decoder_ports(
    inputs: Sequence[Port], outputs: Sequence[Port], encoder_outputs: Sequence[Port], file: str
) -> DecoderPorts:
    """The prompt decoder's inputs and outputs, and which features of the encoder it takes.

    Raises:
        ArtifactError: an input that is not understood, features that the encoder does not give, no masks.
    """
    rest = {port.name: port for port in inputs}

    def take(*words: str, without: str = " ") -> str | None:
        for name in rest:
            if any(word in name.lower() for word in words) and without not in name.lower():
                del rest[name]
                return name
        return None

    labels, size = take("label"), take("orig", "im_size", "image_size")
    points, boxes = take("point"), take("box")
    has_mask = take("has_mask")
    mask = take("mask")
    masks_out = _output(outputs, ("low_res", "mask"), least_dims=3)
    scores_out = _output(outputs, ("iou", "score"), least_dims=1)
    if points is None or labels is None or masks_out is None:
        raise _unknown(
            file, "is no prompt decoder: it should take points and labels, and give masks", inputs, outputs
        )
    features = _features(rest, encoder_outputs)
    if features is None:
        raise _unknown(
            file, "takes what the encoder does not give", inputs, outputs,
            more=[f"the encoder gives {_described(port)}" for port in encoder_outputs],
        )  # fmt: skip
    shapes = {port.name: port.shape for port in inputs}
    mask_hw = shapes[mask][-2:] if mask else ()
    return DecoderPorts(
        features, points, labels, boxes, mask, has_mask, size, masks_out, scores_out,
        nested=len(shapes[points]) == 4,
        stretched=len([name for name in features if "position" not in name.lower()]) > 1,
        mask_hw=(mask_hw[0], mask_hw[1]) if all(isinstance(n, int) for n in mask_hw) and mask_hw else None,
        dtypes={port.name: _TYPES.get(port.type, np.float32) for port in inputs},
    )  # fmt: skip


def _output(outputs: Sequence[Port], words: Sequence[str], least_dims: int) -> str | None:
    """The first output whose name has one of the words, words in the order of preference."""
    for word in words:
        for port in outputs:
            if word in port.name.lower() and len(port.shape) >= least_dims:
                return port.name
    return None


def _features(wanted: Mapping[str, Port], given: Sequence[Port]) -> dict[str, str] | None:
    """Decoder input -> encoder output: by name; the one that is left over by its shape."""
    names = {port.name for port in given}
    found = {name: name for name in wanted if name in names}
    left = [port for name, port in wanted.items() if name not in found]
    free = [port for port in given if port.name not in found]
    for port in left:
        fitting = [other for other in free if _fits(port.shape, other.shape)]
        if len(fitting) != 1:
            return None
        found[port.name] = fitting[0].name
        free.remove(fitting[0])
    return found or None


def _fits(one: Sequence[Any], other: Sequence[Any]) -> bool:
    pairs = list(zip(one, other, strict=False))
    return len(one) == len(other) and all(
        a == b for a, b in pairs[1:] if isinstance(a, int) and isinstance(b, int)
    )


def _described(port: Port) -> str:
    return f"{port.name} {list(port.shape)} {port.type}"


def _unknown(
    file: str, why: str, inputs: Sequence[Port], outputs: Sequence[Port], more: Sequence[str] = ()
) -> ArtifactError:
    return ArtifactError(
        f"{file} {why}",
        facts=[
            *(f"input {_described(p)}" for p in inputs),
            *(f"output {_described(p)}" for p in outputs),
            *more,
        ],
        hint="export image encoder and prompt decoder as SAM, MobileSAM, EdgeSAM or Optimum do",
    )
