"""How large the public data sets are, as their papers and releases say (published_counts.toml)."""

import tomllib
from pathlib import Path

# data set -> author of the splits -> split -> images, referents, sentences, as far as they were published
PUBLISHED: dict[str, dict[str, dict[str, dict[str, int]]]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text("utf-8")
)
