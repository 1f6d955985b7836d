"""The only place of this room that knows which class answers for which model family."""

from stages.inference.answers import Answers
from stages.inference.auxiliary_contours import ContourSource, require_auxiliary_masks
from stages.inference.detector_answers import DetectorAnswers
from stages.inference.sequence_answers import SequenceAnswers
from stages.weights.model_file import LoadedModel


def answers_of(
    loaded: LoadedModel, *, contour: ContourSource = "decoder", box_prompt: bool = False
) -> Answers:
    """UsageError for a box prompt or a contour that the model's family does not have."""
    if contour == "auxiliary":
        require_auxiliary_masks(loaded)
    if loaded.config.family == "mdetr":
        return DetectorAnswers(loaded, box_prompt=box_prompt)
    return SequenceAnswers(loaded, contour)
