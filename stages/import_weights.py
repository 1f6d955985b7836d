"""import-weights: weights that were trained elsewhere become a model artifact.

In: a released SeqTR or Partial-RES checkpoint (`.pth`), a darknet trunk (`.weights`), or a folder written by
export-weights. Out: a self-contained rec_model or res_model artifact for train-res, predict and evaluate. It exists
so that published results can be checked and built upon; nothing in a foreign file is ever executed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import StageConfig, in_panel, option
from stages.errors import ArtifactError, UsageError
from stages.models.presets import PRESETS, preset
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from torch import Tensor

    from stages.data.text import TextCodec
    from stages.models.config import ModelConfig

STAGE = "import-weights"
STAGE_VERSION = 1
_inputs = in_panel("Inputs and output")


@dataclass(frozen=True)
class Config(StageConfig):
    """What the files themselves do not say."""

    vocabulary: str | None = _inputs(
        None, "token_to_ix.pkl of the release, or the same as JSON: word -> row of the word table", semantic=False,
    )  # fmt: skip
    word_vectors: str | None = _inputs(
        None, "word_emb.npz of the release: replaces the word table (words of another data set)", semantic=False,
    )  # fmt: skip
    max_words: int = option(15, "words of an expression that are read; RefCOCOg: 20", min=1)
    image_size: int = option(640, "pixels of the longer side", min=32)
    pixel_range: Literal["0-255", "0-1"] | None = option(
        None, "input of the network; default: 0-255 for a released checkpoint, else 0-1"
    )
    model: str = option("seqtr-darknet53", "architecture around a darknet trunk", choices=tuple(PRESETS))
    allow_partial: bool = option(False, "take a darknet file that ends before the trunk does")
    seed: int = option(0, "seed of what a darknet trunk does not bring", min=0)


@dataclass
class _Model:
    """What is written: kind, architecture, words, groups of weights, and the summary's facts."""

    kind: str
    config: ModelConfig
    codec: TextCodec
    groups: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def run(
    config: Config,
    *,
    source: Path,
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Read, recognise, check and write.

    Raises UsageError when the words are not given, ArtifactError for a damaged or refused file and for tensors that
    are missing, unknown or mis-shaped (all are listed).
    """
    source = Path(source)
    _check_given(config, source)
    job = StageJob(
        STAGE, STAGE_VERSION, config, "rec_model", out, options=options,
        external={"source": source, "vocabulary": config.vocabulary, "word_vectors": config.word_vectors},
    )  # fmt: skip

    from stages.weights.model_file import write_model

    model = _read(config, source, reporter)
    job.kind = model.kind
    if settled := job.settled():
        return settled
    for line in model.facts.get("unused", []):
        reporter.warn(f"not used by this task: {line}")
    summary = {
        "source": source.name,
        "kind": model.kind,
        "sequence": model.config.sequence,
        "points": model.config.n_points if model.config.sequence != "box" else None,
        "semantics": model.config.semantics,
        "words": model.codec.size,
        "tensors": {group: len(state) for group, state in model.groups.items()},
        "parameters": sum(v.numel() for v in next(iter(model.groups.values())).values()),
        **model.facts,
    }
    with job.writer() as w:
        w.attr("dataset_digest", str(model.attributes.get("dataset_digest", "imported")))
        if model.kind == "res_model":
            for name in ("split_digest", "rec_digest"):
                w.attr(name, str(model.attributes.get(name, "imported")))
        write_model(w, model.config, model.codec, model.groups, model.history)
        w.json("summary", summary)
    return job.result(summary)


def _check_given(config: Config, source: Path) -> None:
    """What is plainly wrong with the files, told before torch is loaded."""
    from stages.file_kinds import refuse_other_kinds
    from stages.nearest import missing_hint
    from stages.untrusted import require_regular

    if not source.exists():
        raise ArtifactError(f"no such file: {source}", hint=missing_hint(source))
    if source.is_dir():
        return
    if source.suffix != ".weights":
        require_regular(source, what="checkpoint")
        refuse_other_kinds(source, but="zip archive")  # which checkpoints are
    if config.vocabulary is None:
        raise UsageError(
            "the words of the model are not given",
            hint="add --vocabulary token_to_ix.pkl (it lies beside the data set's instances.json of the release)",
        )


def _read(config: Config, source: Path, reporter: Reporter) -> _Model:
    if source.suffix == ".weights" and not source.is_dir():
        return _from_darknet(config, source)
    if not source.is_dir():
        return _from_checkpoint(config, source, reporter)
    from stages.weights.exchange import read_folder

    s = read_folder(source)
    return _Model(s.kind, s.config, s.codec, s.groups, {"format": "exported folder"}, s.history, s.attributes)


def _from_checkpoint(config: Config, source: Path, reporter: Reporter) -> _Model:
    import torch

    from stages.weights.released_files import read_checkpoint
    from stages.weights.released_model import convert, release_image

    stored = read_checkpoint(source)
    if stored.stripped:
        reporter.warn(
            f"names of {source.name} are read without {stored.stripped!r}, which a wrapper put before them"
        )
    if stored.beside:
        shown = ", ".join(stored.beside[:3]) + (" …" if len(stored.beside) > 3 else "")
        reporter.warn(f"left out, because they lie beside the model in {source.name}: {shown}")
    codec = _words(config)
    image = release_image(size=config.image_size, bytes_in=config.pixel_range != "0-1")
    states = {"weights": stored.state}
    if stored.average is not None:
        # an average of parameters alone takes its statistics from the weights
        statistics = {
            k: v
            for k, v in stored.state.items()
            if k.rsplit(".", 1)[-1].startswith(("running_", "num_batches"))
        }
        states["ema"] = {**statistics, **stored.average}
    vectors = _vectors(config, codec.size)
    groups: dict[str, dict[str, Tensor]] = {}
    unused: list[str] = []
    for group, state in states.items():
        if vectors is not None:
            state = {**state, "lan_enc.embedding.weight": torch.from_numpy(vectors.copy())}
        released = convert(state, max_words=config.max_words, image=image, where=f"{source} ({group})")
        groups[group], unused, architecture = released.state, released.unused, released.config
        _require_words(released.vocabulary_size, codec.size, source)
    facts = {
        "format": "released checkpoint",
        "pixel_range": config.pixel_range or "0-255",
        "word_table": "word vectors" if vectors is not None else "checkpoint",
        "unused": unused,
        "ignored": stored.ignored + stored.beside,
        "recorded": stored.facts,
    }
    kind = "rec_model" if architecture.sequence == "box" else "res_model"
    return _Model(kind, architecture, codec, groups, facts)


def _from_darknet(config: Config, source: Path) -> _Model:
    import torch

    from stages.models.build import build_model
    from stages.weights.darknet import load_darknet
    from stages.weights.released_model import release_image

    architecture = preset(config.model)
    if architecture.vision.kind != "darknet53":
        raise UsageError(
            f"--model {config.model} has no DarkNet-53 trunk", hint="use --model seqtr-darknet53"
        )
    codec = _words(config)
    image = release_image(size=config.image_size, bytes_in=config.pixel_range == "0-255")
    text = dataclasses.replace(architecture.text, max_words=config.max_words)
    architecture = architecture.replace(sequence="box", task_token="zero", image=image, text=text)
    torch.manual_seed(config.seed)
    model = build_model(architecture, codec.size)
    loaded = load_darknet(model.vision.body, source, allow_partial=config.allow_partial)
    vectors = _vectors(config, codec.size)
    if vectors is not None:
        encoder: Any = model.text
        table = encoder.embedding.weight
        if table.shape[1] != vectors.shape[1]:
            raise UsageError(f"word vectors are {vectors.shape[1]} wide, the model's are {table.shape[1]}")
        with torch.no_grad():
            table.copy_(torch.from_numpy(vectors))
    facts = {
        "format": "darknet trunk",
        "pixel_range": config.pixel_range or "0-1",
        "word_table": "random" if vectors is None else "word vectors",
        "trunk_tensors": len(loaded.read),
        "numbers_left_over": loaded.left_over,
        "not_covered": loaded.not_covered,
    }
    return _Model("rec_model", architecture, codec, {"weights": model.state_dict()}, facts)


def _words(config: Config) -> TextCodec:
    from stages.data.text import WordCodec
    from stages.weights.released_files import read_vocabulary

    return WordCodec(read_vocabulary(Path(str(config.vocabulary))), config.max_words)


def _vectors(config: Config, n_words: int) -> Any:
    from stages.weights.released_files import read_word_vectors

    if config.word_vectors is None:
        return None
    vectors = read_word_vectors(Path(config.word_vectors))
    if len(vectors) != n_words:
        raise UsageError(
            f"{config.word_vectors} has {len(vectors)} vectors, {config.vocabulary} has {n_words} words"
        )
    return vectors


def _require_words(rows: int, words: int, source: Path) -> None:
    if rows != words:
        raise UsageError(
            f"{source} has a table of {rows} words, the vocabulary has {words}",
            hint="give the token_to_ix.pkl of the data set that it was trained on, or --word-vectors for the new words",
        )
