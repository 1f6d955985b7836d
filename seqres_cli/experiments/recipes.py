"""All numbers of the experiments: how long each training lasts, at which shares of the masks, with which flags.

Nothing here computes. A length is (epochs, steps an epoch), or one for each share of masks from which on it holds.
"""

from __future__ import annotations

Length = tuple[int, int]
Lengths = dict[str, Length | dict[float, Length]]

# ------------------------------------------------------------------ lengths, by scale

# rec: boxes. masks: the contour on the whole image, from masks alone (naive, task token, CCTF, PMCA, table 1).
# first: box-then-contour and second look, from the few masks. second: from masks and pseudo points, where a round
# starts from the box model; onward: where it goes on from the model before. multitask: table 1, boxes and masks from the
# start, as many pictures as rec and masks together. mdetr-rec: also each SiRi round.
LENGTHS: dict[str, Lengths] = {
    "tiny": {
        "rec": (1, 2),
        "masks": (1, 2),
        "first": (1, 2),
        "second": (1, 2),
        "onward": (1, 2),
        "multitask": (1, 2),
        "mdetr-rec": (1, 2),
        "mdetr-masks": (1, 2),
    },
    "smoke": {
        "rec": (1, 320),
        "masks": {0.0: (1, 80), 0.25: (1, 240)},
        "first": (1, 160),
        "second": (1, 240),
        "onward": (1, 80),
        "multitask": (1, 560),
        "mdetr-rec": (1, 320),
        "mdetr-masks": {0.0: (1, 80), 0.25: (1, 240)},
    },
    "standard": {
        "rec": (2, 300),
        "masks": {0.0: (2, 200), 0.05: (2, 300), 0.25: (2, 500)},
        "first": (2, 450),
        "second": (2, 300),
        "onward": (1, 450),
        "multitask": (2, 1100),
        "mdetr-rec": (2, 300),
        "mdetr-masks": {0.0: (2, 200), 0.05: (2, 300), 0.25: (2, 500)},
    },
}
SIRI_ROUNDS = 1  # trainings after the first one
ROUNDS = 2  # further trainings of the full method

# ------------------------------------------------------------------ shares of masks, by scale

FEW = {"tiny": 0.3, "smoke": 0.05, "standard": 0.01}  # of the ablation
CURVE = {"tiny": (0.3, 1.0), "smoke": (0.02, 0.05, 0.2, 1.0), "standard": (0.005, 0.01, 0.05, 0.1, 1.0)}
FIGURE1 = {"tiny": (0.3, 1.0), "smoke": (0.05, 0.25, 1.0), "standard": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)}

# ------------------------------------------------------------------ flags of the stages

# of every training, by scale
TRAINING = {
    "tiny": "--validation-sentences 20",
    "smoke": "--warmup-epochs 0.1 --validation-sentences 100",
    "standard": "--validate-every 2",
}
EVALUATE = {"tiny": "--max-sentences 20", "smoke": "--max-sentences 200", "standard": "--max-sentences 1000"}
# Further evaluations of a model: column -> (beginning of the file's name, flags)
BESIDE = {
    "miou_given_box": ("box-", "--box-prompt"),
    "miou_marked": ("marked-", "--outline marked"),
    "miou_marked_given_box": ("marked-box-", "--outline marked --box-prompt"),
}
REC = {"tiny": "--lr 0.003", "smoke": "--lr 0.003 --frozen all", "standard": "--lr 0.003"}
# of train-res: small steps, and many of them, earn more than few large ones
RES = {"tiny": "", "smoke": "", "standard": "--batch-images 8"}
# Its peak learning rate, by role. A comprehension model that is refined on masks alone, the whole image before it,
# unlearns the boxes at a high rate (docs/EXPERIMENTS.md). All other roles train boxes beside, or leave them to a locator.
RATE = 0.002
RATES = {"masks": 0.001, "second": 0.001, "mdetr-masks": 0.0005}
# the cells' answer weighs more than beside tokens: the losses of boxes are larger numbers that teach less
MDETR_REC = {
    "tiny": "",
    "smoke": "--lr 0.002 --grounding-weight 16 --frozen all",
    "standard": "--lr 0.002 --grounding-weight 16",
}

# Trainings of train-res by name. Each is the one above it and one thing more, except where words say otherwise.
VARIANTS = {
    "naive": "--sequence contour --task-token zero --no-cctf --no-pmca --no-point-content",
    "task-token": "--sequence contour --task-token learnable --no-cctf --no-pmca --no-point-content",
    "cctf": "--sequence contour --task-token learnable --cctf --no-pmca --no-point-content",
    "pmca": "--sequence contour --task-token learnable --cctf --pmca --no-point-content",
    "box-contour": "--sequence box-contour --task-token learnable --cctf --pmca --no-point-content",
    "point-content": "--sequence box-contour --task-token learnable --cctf --pmca",
    "zoom": "--sequence box-contour --task-token learnable --cctf --pmca --zoom {zoom} --sentences-per-image 3",
    # table 1, instead of refining the box model
    "multitask": "--sequence multitask --task-token task-wise --no-cctf --no-pmca --no-point-content --from-scratch",
    "multitask-from-rec": "--sequence multitask --task-token task-wise --no-cctf --no-pmca --no-point-content",
    "mdetr": "",
}
# Added where a box-then-contour model learns from the few masks alone: box-only objects train the box beside them
FEW_MASKS = "--box-only-images 4 --mirror 0.5 --colour 0.2"
# In a window around the box there is no box to learn: the locator is the REC model
FEW_MASKS_ZOOM = "--box-only-images 0 --mirror 0.5 --colour 0.2 --zoom-jitter 0.2"
# Added by "few-mask augmentation": turned by up to so many degrees, pasted on other ground with this chance
AUGMENTED = "--rotate 180 --paste 0.5"
# Added where a round goes on from the model before: it must not unlearn the masks
ONWARD = "--init-keep {keep} --mask-images 4"
# Added where everybody has an outline, on the whole image; in a window every outline is varied alike
ALL_OUTLINED = "--box-only-images 0"

PSEUDO = {
    # the paper's: drawn without help; a short training does not see more than so many objects
    "free": "--no-box-prompt --sentences-per-referent 1 --max-referents 8000",
    "box": "--box-prompt --sentences-per-referent 1 --max-referents 8000",
    "box-all": "--box-prompt --sentences-per-referent 1",  # of the full method: all are measured
}
LATER_PROMPT = "box"  # of the second round
SELECT = {
    "plain": "--fit none",
    "fit": "--fit box",
    "curve": "--fit none --between curve --n-points 80",
    "weighted": "--fit none --between curve --n-points 80 --weighting both",
}
FULL_METHOD_SELECT = "curve"  # of augmentation, rounds and the curve of the full method

# ------------------------------------------------------------------ guesses of time, for the order of the work

STEP_SECONDS = {"rec": 0.9, "zoom": 0.35, "whole": 0.45, "mdetr": 1.3}
START_SECONDS = 6.0  # of a training, and of anything that loads torch
PREPARE_SECONDS = {"tiny": 3.0, "smoke": 15.0, "standard": 120.0}
PSEUDO_SECONDS = {"tiny": 6.0, "smoke": 30.0, "standard": 240.0}
REFINE_SECONDS = {"tiny": 2.0, "smoke": 60.0, "standard": 600.0}
EVALUATE_SECONDS = {"tiny": 6.0, "smoke": 15.0, "standard": 20.0}
