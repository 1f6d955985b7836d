"""Join what pseudo-label or predict wrote with --shard i/n into the file of one run.

All n shards of one run make the file that the same command without --shard makes: the same content, the same digest, and
up to date for that command. Shards may be made at the same time, on different machines, and in any order. Documents of
predict are merged in the folder in which they lie, because names of pictures are relative to it.
"""

from pathlib import Path

from seqres_cli.options import ExtraOption
from seqres_cli.stage_command import StageCommand

COMMAND = StageCommand(
    name="merge",
    help=__doc__,
    extras=(ExtraOption("files", list[Path], "the shards", positional=True),),
    examples=("seqres merge pseudo-1.h5 pseudo-2.h5 --out pseudo.h5",),
    panel="Files and models",
)
