"""How large the public data sets are, as their papers and releases say."""

from __future__ import annotations

# (images, referents, sentences) of each split, as published with the data
PUBLISHED: dict[tuple[str, str], dict[str, tuple[int | None, int | None, int]]] = {
    ("refcoco", "unc"): {
        "train": (16_994, 42_404, 120_624),
        "val": (1_500, 3_811, 10_834),
        "testA": (750, 1_975, 5_657),
        "testB": (750, 1_810, 5_095),
        "total": (19_994, 50_000, 142_210),
    },
    ("refcoco+", "unc"): {
        "train": (16_992, 42_278, 120_191),
        "val": (1_500, 3_805, 10_758),
        "testA": (750, 1_975, 5_726),
        "testB": (750, 1_798, 4_889),
        "total": (19_992, 49_856, 141_564),
    },
    ("refcocog", "umd"): {
        "train": (21_899, 42_226, 80_512),
        "val": (1_300, 2_573, 4_896),
        "test": (2_600, 5_023, 9_602),
        "total": (25_799, 49_822, 95_010),
    },
    # The test split of this one (5,000 referents) was never published, but counts in the total.
    ("refcocog", "google"): {
        "train": (None, 44_822, 85_474),
        "val": (None, 5_000, 9_536),
        "total": (26_711, 54_822, 104_560),
    },
    ("referitgame", "berkeley"): {
        "train": (None, None, 54_127),
        "val": (None, None, 5_842),
        "test": (None, None, 60_103),
        "total": (None, None, 120_072),
    },
    # 32,202 of these sentences have no target; testA and testB came out later than the paper
    ("grefcoco", "unc"): {"total": (19_994, None, 278_232)},
}  # fmt: skip
