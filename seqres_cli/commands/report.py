"""Write a page that shows what a run did, and on which its pseudo masks are judged.

Takes any artifacts of one dataset: scores beside the trivial rows, learning curves, pseudo labels, and a gallery with
filters. Pseudo masks are accepted or rejected on the page; resample-points and split-masks obey the decisions.json
that it downloads. The page needs no server and no network; an older page in OUT is replaced.
"""

from pathlib import Path
from typing import Annotated

import typer

from seqres_cli.options import Json, Quiet
from seqres_cli.output import Answer, RichReporter, summary_lines
from seqres_cli.stage_command import PlainCommand
from stages.errors import UsageError

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Artifacts.", show_default=False)]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the page (required).")
]
ShowHidden = Annotated[
    bool,
    typer.Option("--show-hidden", help="Show true masks also where the split hides them; for eyes only."),
]
Cards = Annotated[int, typer.Option(help="Cards of the gallery at most, spread evenly over what there is.")]
Pixels = Annotated[int, typer.Option(help="Longer side of the gallery's pictures at most, pixels.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def report(
    files: Files,
    out: Out = None,
    show_hidden: ShowHidden = False,
    cards: Cards = 5000,
    picture_pixels: Pixels = 480,
    open: Open = False,
    json: Json = False,
    quiet: Quiet = False,
) -> Answer:
    from stages.report import Config, run

    if out is None:
        raise UsageError("report needs --out", hint="seqres report --help")
    config = Config(show_hidden=show_hidden, cards=cards, picture_pixels=picture_pixels)
    shown = run(config, files=files, out=out, reporter=RichReporter(quiet=quiet))
    page = (out / "index.html").absolute()
    if open:
        import webbrowser

        webbrowser.open(page.as_uri())
    return Answer({"path": str(page), **shown}, [f"wrote {out / 'index.html'}", *summary_lines(shown)])


COMMAND = PlainCommand(
    name="report",
    help=__doc__,
    function=report,
    panel="Stages of the method",
    examples=(
        "seqres report runs/demo/*.h5 runs/demo/eval/*.h5 --out runs/demo/report --open",
        "seqres report data.h5 pseudo.h5 points.h5 --out review",
    ),
)
