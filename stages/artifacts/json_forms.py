"""What the JSON texts of an artifact must look like, checked whenever one is read and by `verify`.

Only what some reader relies on is written down; other keys may stand beside it. A key that an old file lacks has a
default here, so that old files stay readable.
"""

import functools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Count = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]
Object = dict[str, Any]
Metrics = dict[str, Number | None]


class Form(BaseModel):
    """Keys that no reader relies on may stand beside those of a form."""

    model_config = ConfigDict(extra="allow", strict=True)


class Setting(Form):
    value: Any = None
    origin: str = ""


class Input(Form):
    role: str = ""
    path: str = ""
    kind: str = ""
    digest: str = ""


class External(Form):
    role: str = ""
    path: str = ""
    size: Count = 0
    sha256: str = ""


class Provenance(Form):
    """See provenance.py."""

    stage: str | None = None
    stage_version: int | None = None
    argv: list[str] = []
    device: str | None = None
    config: dict[str, Setting] = {}
    inputs: list[Input] = []
    external: list[External] = []
    versions: dict[str, str] = {}
    started_utc: str | None = None
    ended_utc: str | None = None
    seconds: Seconds | None = None


class Vocabulary(Form):
    kind: Literal["words", "tokenizer"] | None = None
    words: list[str] = []
    tokenizer: str = ""
    max_words: Annotated[int, Field(ge=1, le=10_000)] = 1
    pad_id: Count = 0


class Epoch(Form):
    epoch: Number | None = None


class Selection(Form):
    by: str | None = None


class Round(Form):
    round: Count
    final: Object = {}
    best: Object | None = None


class ModelSummary(Form):
    contours_from_masks: Count | None = None
    contours_from_pseudo_points: Count | None = None
    rounds: list[Round] = []


class Histogram(Form):
    edges: Annotated[list[Number], Field(min_length=2)]
    counts: list[Count]


class ResampledSummary(Form):
    histogram: Histogram | None = None


class ShardSummary(Form):
    held_out_referents: Count = 0
    weights_chosen_by: str = ""
    prompt: str = ""
    audit: Object | None = None


class AttentionSummary(Form):
    models: list[str] = []


class SplitScores(Form):
    n_referents: Count | None = None
    n_sentences: Count | None = None
    n_mask_referents: Count | None = None
    n_mask_sentences: Count | None = None
    rec: Metrics | None = None
    res: dict[str, Metrics] | None = None


class EvaluationSummary(Form):
    splits: dict[str, SplitScores] = {}
    frame: str | None = None
    n_points: Count | None = None
    box_prompt: bool | None = None
    weights: str | None = None
    weights_chosen_by: str | None = None
    precision: str | None = None


class MaskRows(Form):
    model: Metrics
    filled_box: Metrics
    ellipse: Metrics
    true_filled_box: Metrics
    true_ellipse: Metrics
    upper_bound: Metrics


class ScoredSplit(Form):
    n_referents: Count
    n_sentences: Count
    n_mask_referents: Count = 0
    n_mask_sentences: Count = 0
    rec: Metrics | None
    res: MaskRows | None = None


class Scores(Form):
    """What tables need of an evaluation's summary; a file made by hand may have less."""

    splits: dict[str, ScoredSplit]
    frame: str | None = None
    n_points: Count | None = None


class ExportedModel(Form):
    """config.json of an exported folder (weights/exchange.py)."""

    version: Count
    kind: Literal["rec_model", "res_model"]
    architecture: Object
    weights: dict[str, str]
    history: list[Epoch]
    attributes: dict[str, str] = {}


# name of a JSON text -> its form, in every kind
_EVERYWHERE: dict[str, Any] = {
    "provenance": Provenance,
    "summary": Object,
    "counts": Object,
    "missing_images": list[str],
    "architecture": Object,
    "locator_architecture": Object,
    "preprocessing": Object,
    "vocabulary": Vocabulary,
    "history": list[Epoch] | Object,  # an object: of the first files, which kept none
    "selection": Selection,
}
_SUMMARIES: dict[str, Any] = {
    "rec_model": ModelSummary,
    "res_model": ModelSummary,
    "pseudo_shard": ShardSummary,
    "resampled_points": ResampledSummary,
    "attention": AttentionSummary,
    "evaluation": EvaluationSummary,
}


def problem(kind: str, name: str, value: Any) -> str | None:
    """Where a JSON value of an artifact has another form than its readers rely on, in words; None where it has not."""
    form = _SUMMARIES.get(kind, Object) if name == "summary" else _EVERYWHERE.get(name)
    return None if form is None else problem_of_form(form, name, value)


def problem_of_form(form: Any, name: str, value: Any) -> str | None:
    """The same for any form: a pydantic model, or a type."""
    try:
        _adapter(form).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join([name, *(str(part)[:40] for part in first["loc"])])
        return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return None


@functools.cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def tidy_record(record: Any) -> Object:
    """A provenance record without the parts that have another form: it is no content, so nothing fails on it."""
    tidy: Object = {}
    for key, part in record.items() if isinstance(record, dict) else ():
        field = Provenance.model_fields.get(key)
        if field is None:
            tidy[key] = part
        elif isinstance(field.default, list) and isinstance(part, list):
            tidy[key] = [kept[0] for one in part if (kept := _part(key, [one]))]
        elif isinstance(field.default, dict) and isinstance(part, dict):
            tidy[key] = {k: kept[k] for k, one in part.items() if (kept := _part(key, {k: one}))}
        elif (kept := _part(key, part)) is not None:
            tidy[key] = kept
    return tidy


def _part(key: str, value: Any) -> Any:
    """One key of a record, absent keys filled in; None where it has another form."""
    try:
        return Provenance.model_validate({key: value}).model_dump(include={key})[key]
    except ValidationError:
        return None


def history_rows(history: Any) -> list[Object]:
    """A model's training history, one row an epoch; none in the first files, whose history is an object."""
    return history if isinstance(history, list) else []
