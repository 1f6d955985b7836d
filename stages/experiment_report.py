"""Turn the evaluation files of an experiment into a table, a curve and a page.

In: rows, each with the files of its runs (one a seed), plain data without knowledge of how they were made. Out: a
folder with table.md, table.csv, table.json, report.md, index.html and the curve as PNG and numbers. Why: a number
without its spread, its trivial row and its reference says little.
"""

from pathlib import Path
from typing import Any

from stages.metrics.experiment_rows import Curve, Experiment, Row, RunFiles, Table
from stages.reporter import Reporter, SilentReporter

__all__ = ["Curve", "Experiment", "Row", "RunFiles", "Table", "write_report"]


def write_report(
    experiment: Experiment,
    *,
    dataset: Path,
    split: str,
    folder: Path,
    audits: Path,
    reporter: Reporter = SilentReporter(),
) -> dict[str, Any]:
    """Measure what is there and replace `folder` by the new report; the numbers are returned as they stand in
    table.json.

    Args:
        dataset: whose masks the pseudo labels are compared with, hidden ones too.
        split: whose scores the table shows.
        audits: folder that keeps the comparisons with hidden masks, by the digests of what they compare.

    Raises:
        ArtifactError: a file cannot be read, or `folder` holds something else than a report.
    """
    from stages.figures.experiment_page import report_files
    from stages.figures.report import write_folder
    from stages.metrics.experiment import measure_row, with_comparisons

    measured = {}
    with reporter.progress("report", len(experiment.rows), "row") as task:
        for row in experiment.rows:
            measured[row.name] = measure_row(row, split, dataset, audits)
            task.advance()
    with_comparisons(measured, {row.name: (row.basis, row.reference) for row in experiment.rows})
    numbers, html, files = report_files(experiment, measured, split)
    write_folder(folder, html, files)
    return numbers
