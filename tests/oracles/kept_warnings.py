"""A reporter that keeps the warnings of a stage."""

from __future__ import annotations

from stages.reporter import SilentReporter


class KeptWarnings(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)
