"""Promptable segmenters as two ONNX files, image encoder and prompt decoder, through onnxruntime.

Exported decoders often give one mask a prompt. Where that mask's projections disagree with the box, the same box is asked
again, with the mask as a further prompt, and then a little wider: each answer is a candidate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError, UsageError
from stages.geometry.projection import projection_score
from stages.refinement.onnx_ports import DecoderPorts, EncoderPorts, decoder_ports, encoder_ports, is_decoder
from stages.refinement.segmenter import HINT, Frame, cut_to_box, interior_points

SUFFIX = ".onnx"
ASK_AGAIN_ABOVE = 0.05  # projection score of the best mask so far, cut at the box
WIDER = 1.1  # of the box, the third time
INSIDE, TOP_LEFT, BOTTOM_RIGHT = 1.0, 2.0, 3.0  # labels of points


@dataclass
class EncodedPicture:
    """The encoder's outputs by name, and how the photograph lies in its input."""

    features: dict[str, NDArray[Any]]
    frame: Frame


class OnnxSegmenter:
    """`Segmenter` of an encoder and a decoder session, asked with the box and so many points inside the old mask."""

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        ports: tuple[EncoderPorts, DecoderPorts],
        *,
        prompt_points: int,
        max_prompts: int,
    ) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._in, self._out = ports
        self._prompt_points, self._max_prompts = prompt_points, max_prompts
        self._given = [port.name for port in encoder.get_outputs()]
        self.device = "cuda" if "CUDA" in encoder.get_providers()[0] else "cpu"

    def encode(self, picture: NDArray[np.uint8]) -> EncodedPicture:
        """See `Segmenter`."""
        port = self._in
        frame = Frame.of((picture.shape[0], picture.shape[1]), port.side, stretch=self._out.stretched)
        if port.channels_first and port.dtype is not np.uint8:
            pixels: NDArray[Any] = frame.canvas(picture)
        else:
            pixels = frame.resized(picture)
            if port.fixed:
                canvas = np.zeros((port.side, port.side, 3), np.uint8)
                canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
                pixels = canvas
            pixels = (pixels.transpose(2, 0, 1) if port.channels_first else pixels)[None]
        pixels = np.ascontiguousarray(pixels if port.batched else pixels[0], port.dtype)
        wanted = [name for name in self._given if name in self._out.features.values()]
        found = _run(self._encoder, wanted, {port.name: pixels}, "image encoder")
        return EncodedPicture(dict(zip(wanted, found, strict=True)), frame)

    def segment(
        self, encoded: EncodedPicture, boxes_xyxy: NDArray[np.floating], starts: NDArray[np.bool_]
    ) -> tuple[Sequence[NDArray[np.bool_]], Sequence[NDArray[np.float32]]]:
        """See `Segmenter`; C differs by prompt."""
        answers = [
            list(self._answers(encoded, box, start)) for box, start in zip(boxes_xyxy, starts, strict=True)
        ]
        return (
            [np.concatenate([masks for masks, _ in of_box]) for of_box in answers],
            [np.concatenate([scores for _, scores in of_box]) for of_box in answers],
        )

    def _answers(
        self, encoded: EncodedPicture, box_xyxy: NDArray[np.floating], start: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        """(C, H, W) and (C,) for each question about a box, as many as it takes."""
        # without a way to give the box, points must do
        points = interior_points(start, self._prompt_points or (0 if self._takes_boxes else 1))
        masks, scores, logits = self._ask(encoded, box_xyxy, points, None)
        yield masks, scores
        asked, best = 1, _disagreement(masks, box_xyxy)
        again = len(masks) == 1 and logits.shape[-2:] == self._out.mask_hw
        if again and asked < self._max_prompts and best > ASK_AGAIN_ABOVE:
            masks, scores, _ = self._ask(encoded, box_xyxy, points, logits)
            yield masks, scores
            asked, best = asked + 1, min(best, _disagreement(masks, box_xyxy))
        if len(masks) == 1 and asked < self._max_prompts and best > ASK_AGAIN_ABOVE:
            more = (np.asarray(box_xyxy[2:], np.float64) - box_xyxy[:2]) * (WIDER - 1) / 2
            yield self._ask(encoded, box_xyxy + np.concatenate([-more, more]), points, None)[:2]

    @property
    def _takes_boxes(self) -> bool:
        """As an input of its own or as two labelled corners, which transformers' decoders do not know."""
        return self._out.boxes is not None or not self._out.nested

    def _ask(
        self,
        encoded: EncodedPicture,
        box_xyxy: NDArray[np.floating],
        points_xy: NDArray[np.floating],
        mask: NDArray[np.floating] | None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.floating]]:
        """One call of the decoder: masks (C, H, W), scores (C,), logits (C, h, w)."""
        ports, frame = self._out, encoded.frame
        # decoders add half a pixel to a point, because they count pixels; our origin is the first one's corner
        points = np.asarray(points_xy, np.float64) * frame.scale_xy - 0.5
        labels = np.full(len(points), INSIDE)
        corners = np.asarray(box_xyxy, np.float64).reshape(2, 2) * frame.scale_xy
        if ports.boxes is None and self._takes_boxes:
            points = np.concatenate([corners, points])
            labels = np.concatenate([[TOP_LEFT, BOTTOM_RIGHT], labels])
        outer = (None, None) if ports.nested else (None,)
        given: dict[str, NDArray[Any]] = {
            **{name: encoded.features[output] for name, output in ports.features.items()},
            ports.points: points[outer],
            ports.labels: labels[outer],
        }
        if ports.boxes is not None:
            given[ports.boxes] = corners.reshape(1, 1, 4)
        if ports.mask is not None:
            h, w = ports.mask_hw or (frame.side // 4,) * 2
            given[ports.mask] = np.zeros((1, 1, h, w)) if mask is None else mask.reshape(1, 1, h, w)
        if ports.has_mask is not None:
            given[ports.has_mask] = np.array([mask is not None])
        if ports.size is not None:
            given[ports.size] = np.array(frame.size_hw)
        given = {name: np.ascontiguousarray(value, ports.dtypes[name]) for name, value in given.items()}
        wanted = [ports.masks_out, *([ports.scores_out] if ports.scores_out else [])]
        found = _run(self._decoder, wanted, given, "prompt decoder")
        logits = np.asarray(found[0], np.float32).reshape(-1, *found[0].shape[-2:])
        scores = (
            np.asarray(found[1], np.float32).reshape(-1) if ports.scores_out else np.full(len(logits), np.nan)
        )
        if len(scores) != len(logits):
            raise ArtifactError(f"the prompt decoder gave {len(logits)} masks and {len(scores)} scores")
        whole = logits.shape[-2:] == frame.size_hw
        masks = logits > 0 if whole else frame.masks(logits[None])[0]
        return masks, scores.astype(np.float32), logits


def load_onnx_segmenter(
    source: str, *, threads: int, cuda: bool, prompt_points: int, max_prompts: int
) -> OnnxSegmenter:
    """Two ONNX files: a folder that holds them, or both paths with a comma between; which is which is found out.

    Raises:
        UsageError: onnxruntime is not installed.
        ArtifactError: there are not two files, they are damaged, or no encoder and decoder that belong together.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "ONNX segmenters need onnxruntime, which is not installed", hint="pip install 'seqres[onnx]'"
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 4
    providers = [p for p in ("CUDAExecutionProvider",) if cuda and p in onnxruntime.get_available_providers()]
    sessions = {}
    for path in onnx_files(source):
        try:
            sessions[path] = onnxruntime.InferenceSession(
                str(path), settings, providers=[*providers, "CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ArtifactError(
                f"{path} is no ONNX model that can be run", facts=[_first_line(error)], hint=HINT
            ) from error
    roles = {is_decoder(session.get_inputs()): path for path, session in sessions.items()}
    if len(roles) != 2:
        raise ArtifactError(
            f"{source} holds two {'prompt decoders' if True in roles else 'image encoders'}, no pair",
            facts=[f"{path}: {', '.join(p.name for p in s.get_inputs())}" for path, s in sessions.items()],
            hint="give the image encoder and the prompt decoder of one segmenter",
        )
    encoder, decoder = sessions[roles[False]], sessions[roles[True]]
    ports = (
        encoder_ports(encoder.get_inputs(), encoder.get_outputs(), str(roles[False])),
        decoder_ports(decoder.get_inputs(), decoder.get_outputs(), encoder.get_outputs(), str(roles[True])),
    )
    return OnnxSegmenter(encoder, decoder, ports, prompt_points=prompt_points, max_prompts=max_prompts)


def onnx_files(source: str) -> list[Path]:
    """The two files that `source` names, see `load_onnx_segmenter`; [] when it names something else.

    Raises:
        ArtifactError: files that are absent, or a folder with one ONNX file, or with more than two.
    """
    whole = Path(source)
    if whole.is_dir():
        files = sorted(whole.glob(f"*{SUFFIX}"))
        if len(files) in (0, 2):
            return files
        raise ArtifactError(
            f"{source} holds {len(files)} ONNX files, a segmenter is two",
            facts=[path.name for path in files[:20]],
            hint="give both files: ENCODER.onnx,DECODER.onnx",
        )
    files = [Path(part.strip()) for part in source.split(",")]
    if not any(path.suffix == SUFFIX for path in files):
        return []
    if len(files) != 2:
        raise ArtifactError(f"{source} is {len(files)} files, a segmenter is two", hint=HINT)
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise ArtifactError(f"no such file: {absent[0]}", facts=["given with --segmenter"], hint=HINT)
    return files


def _run(
    session: Any, wanted: Sequence[str], given: dict[str, NDArray[Any]], what: str
) -> list[NDArray[Any]]:
    try:
        found: list[NDArray[Any]] = session.run(list(wanted), given)
    except Exception as error:  # see above
        raise ArtifactError(
            f"the {what} of the segmenter cannot be run",
            facts=[_first_line(error), *(f"{k}: {v.dtype} {list(v.shape)}" for k, v in given.items())],
            hint="export it again, with a batch of one picture and any number of points",
        ) from error
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _disagreement(masks: NDArray[np.bool_], box_xyxy: NDArray[np.floating]) -> float:
    return min(projection_score(mask, box_xyxy) for mask in cut_to_box(masks, box_xyxy))
