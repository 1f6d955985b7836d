"""Released SeqTR / Partial-RES weights -> our architecture and state dict (release semantics throughout).

Everything about the architecture is read from the tensors; what they cannot tell (number of heads without PMCA,
words of a sentence, image size, pixel range) comes from the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from stages.errors import ArtifactError, first_of
from stages.models.build import build_model
from stages.models.config import FusionConfig, ImageConfig, ModelConfig, TextConfig, VisionConfig
from stages.weights.released_names import TASK_PROMPT, rename

Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 8
_NEEDED = ("slot_embedding.weight", "token_embedding.weight", "text.embedding.weight", "input_proj.weight")


@dataclass(frozen=True)
class Released:
    """A released model in our terms.

    Attributes:
        state: our state dict. unused: released tensors that this task does not read (a task token beside a box).
    """

    config: ModelConfig
    vocabulary_size: int
    state: dict[str, Tensor]
    unused: list[str] = field(default_factory=list)


def convert(
    state: Mapping[str, Tensor], *, max_words: int = 15, image: ImageConfig | None = None, where: str
) -> Released:
    """Recognise the model and rename its tensors; the result loads strictly.

    Args:
        state: released names without `module.`.
        image: how pictures are prepared; default: 640 px, multiples of 32, pixels in [0, 1].
        where: what the errors call the file.

    Raises:
        ArtifactError: every missing, unknown and mis-shaped tensor, by its released name.
    """
    renamed, unknown = rename(state)
    shapes = {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    absent = [name for name in _NEEDED if name not in renamed]
    if absent:
        raise ArtifactError(
            f"{where} is no released SeqTR or Partial-RES model",
            facts=[f"missing: {n}" for n in absent] + first_of([f"unknown: {n}" for n in unknown], _SHOWN),
            hint="its tensors must be named as in the public repositories (vis_enc.darknet…, head.transformer…)",
        )
    config = recognise(shapes, is_prompted=TASK_PROMPT in state, max_words=max_words, image=image)
    unused = []
    if config.task_token == "zero" and TASK_PROMPT in state:
        # the released box task starts from zeros, whatever was trained here
        del renamed["task_embedding.weight"]
        unused.append(TASK_PROMPT)
    vocabulary_size = shapes["text.embedding.weight"][0]
    _compare(renamed, unknown, config, vocabulary_size, where)
    return Released(config, vocabulary_size, renamed, unused)


def recognise(shapes: Shapes, *, is_prompted: bool, max_words: int, image: ImageConfig | None) -> ModelConfig:
    """Architecture from the shapes of our-named tensors. `is_prompted`: a Partial-RES model (task prompt present)."""
    slots, d_model = shapes["slot_embedding.weight"]
    pmca = any(".point." in name for name in shapes)
    partial = is_prompted or pmca
    tasks = shapes.get("task_embedding.weight", (0,))[0]
    heads = shapes.get("decoder.layers.0.point.mlp.4.weight", (32,))[0] // 4
    if tasks == 2:
        sequence, n_points, task_token = "multitask", (slots - 6) // 2, "task-wise"
    elif slots == 5:
        sequence, n_points, task_token = "box", 12, "zero"
    else:
        sequence, n_points, task_token = "contour", (slots - 1) // 2, "learnable" if partial else "zero"
    word_dim = shapes["text.embedding.weight"][1]
    return ModelConfig(
        sequence=sequence,  # type: ignore[arg-type]
        n_points=n_points,
        n_bins=shapes["token_embedding.weight"][0] - 1,
        task_token=task_token,  # type: ignore[arg-type]
        text_in_memory="sentence" if partial else "none",
        cctf=partial,
        pmca=pmca,
        semantics="release",
        d_model=d_model,
        n_heads=heads,
        encoder_layers=_layers(shapes, "encoder.layers."),
        decoder_layers=_layers(shapes, "decoder.layers."),
        ffn_dim=shapes.get("encoder.layers.0.linear1.weight", (1024,))[0],
        image=image or release_image(),
        vision=VisionConfig(kind="darknet53", frozen="all-but-last-two"),
        fusion=FusionConfig(kind="bottom-up", channels=shapes["input_proj.weight"][1]),
        text=TextConfig(
            kind="gru",
            word_dim=word_dim,
            hidden=shapes.get("text.lstm.weight_hh_l0", (0, 512))[1],
            max_words=max_words,
            packed=False,
        ),
    )


def release_image(*, size: int = 640, bytes_in: bool = False) -> ImageConfig:
    """Pictures as the release prepares them: no mean, no deviation.

    `bytes_in=True`: values 0 … 255, which is what its training pipeline feeds (ODDITIES A12: the batch norms of a
    released checkpoint have adapted to it); False: values 0 … 1, which is what darknet's weights were trained on.
    """
    scale = 1 / 255 if bytes_in else 1.0
    return ImageConfig(size=size, multiple=32, mean=(0.0, 0.0, 0.0), std=(scale, scale, scale))


def _layers(shapes: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def _compare(
    state: Mapping[str, Tensor], unknown: list[str], config: ModelConfig, vocabulary_size: int, where: str
) -> None:
    import torch

    with torch.device("meta"):
        wanted = {n: tuple(t.shape) for n, t in build_model(config, vocabulary_size).state_dict().items()}
    facts = [f"missing: {_theirs(n, config)}" for n in wanted if n not in state]
    facts += [f"unknown: {n}" for n in unknown]
    facts += [f"unknown: {_theirs(n, config)}" for n in state if n not in wanted]
    facts += [
        f"shape of {_theirs(n, config)}: {tuple(state[n].shape)}, expected {wanted[n]}"
        for n in wanted
        if n in state and tuple(state[n].shape) != wanted[n]
    ]
    if facts:
        raise ArtifactError(
            f"{where} does not fit a {config.sequence} model of {config.n_bins} bins: {len(facts)} tensors differ",
            facts=first_of(facts, _SHOWN),
            hint="is it truncated, renamed, or from another architecture?",
        )


def _theirs(name: str, config: ModelConfig) -> str:
    from stages.weights.released_names import released_name

    return released_name(name, multitask=config.sequence == "multitask")
