"""One fault in one command, and what must be true afterwards.

Each case: a fresh folder, in one half of them with the results of another call in it; the command runs into one fault
(`faults.py`) in a process of its own; then
  - every result is the old one or the new one, whole (`verify`, digest or bytes), or absent if there was no old one;
  - nothing else lies there but temporary files, and the private state of a training;
  - a refused operation is told as an error of ours (exit code 1 to 3, no traceback), and leaves no temporary file;
  - the same command again (with --resume where a state is left) makes exactly what an undisturbed run makes, and the
    folder then holds nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from seqres_cli.main import main as seqres
from stages.artifacts import open_artifact, verify_artifact
from stages.artifacts.temporary import _LITTER, PRIVATE_USES, private_file
from tests.crash.faults import Fault, Kind
from tests.crash.scenarios import INPUTS, Scenario

# name of a result -> what it is: digest of an artifact, hash of a file or of all in a folder
Picture = dict[str, str]


@dataclass
class Case:
    """One fault in one command."""

    scenario: Scenario
    old: bool  # another result was there
    fault: str  # "kill", "torn", "full", "broken", "read-only", "SIGKILL", "SIGTERM", "SIGINT"
    at: str
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.scenario.name} ({'old there' if self.old else 'empty'}), {self.fault} at {self.at}"


class Laboratory:
    """Inputs of all commands in `folder/base`; each case runs in `folder/work`."""

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        self.base, self.work, self.log = folder / "base", folder / "work", folder / "log"
        self.folder = folder
        cv2.setNumThreads(0)  # a pool of threads here would make OpenCV hang in the forks
        self._make_inputs(inputs)

    def cases(self, scenario: Scenario, kills: int, refusals: int, moments: int) -> list[Case]:
        found = []
        for old in (False, True):
            before, after, operations, seconds = self._undisturbed(scenario, old)
            for kind, at in chosen_points(operations, kills, refusals):
                case = Case(scenario, old, kind, f"operation {at}, {' '.join(operations[at - 1])}")
                fault = Fault(self.work, kind, at)
                found.append(self._case(case, before, after, fault=fault))
            for name in ("SIGKILL", *(("SIGTERM", "SIGINT") if scenario.training else ())):
                for i in range(moments):
                    moment = seconds * random.Random(f"{scenario.name} {old} {name} {i}").random()
                    case = Case(scenario, old, name, f"{moment:.2f} s")
                    found.append(self._case(case, before, after, number=signal.Signals[name], moment=moment))
        return found

    def _make_inputs(self, names: Sequence[str]) -> None:
        from stages.data.refshapes.folder import write_refer_layout

        self.base.mkdir(parents=True, exist_ok=True)
        os.chdir(self.folder)
        if not (self.base / "layout").exists():
            write_refer_layout(self.base / "layout", "tiny", 0, counts={"train": 8, "val": 2, "testA": 2})
        for name in names:
            path = self.base / name
            if path.exists():
                continue
            if name == "photos.csv":
                pictures = sorted((self.base / "layout").rglob("*.jpg"))[:2]
                path.write_text(
                    "image,expression\n" + "".join(f"{picture},the red star\n" for picture in pictures)
                )
            elif name == "decisions.json":
                self._reject_the_first(path)
            else:
                self._must([*INPUTS[name].format(base=self.base).split(), "--out", str(path)])

    def _reject_the_first(self, path: Path) -> None:
        with (
            open_artifact(self.base / "dataset.h5") as dataset,
            open_artifact(self.base / "pseudo.h5") as pseudo,
        ):
            row = int(pseudo["referent_index"][0])
            decision = {"ref_id": int(dataset["referents/ref_id"][row]), "verdict": "reject"}
            about = {"format": "seqres-decisions", "version": 1, "dataset_digest": dataset.digest}
        path.write_text(json.dumps({**about, "decisions": [decision]}))

    def _must(self, words: Sequence[str], fault: Fault | None = None) -> None:
        code = self._run(words, fault)
        assert code == 0, f"{' '.join(words)}: {code}\n{self.log.read_text()}"

    def _fresh(self, template: Path | None) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if template is None:
            self.work.mkdir()
        else:
            shutil.copytree(template, self.work)

    def _undisturbed(
        self, scenario: Scenario, old: bool
    ) -> tuple[Picture, Picture, list[tuple[str, str]], float]:
        """What is there before and after a run without a fault, its file operations, and how long it took."""
        self._fresh(None)
        if old:
            self._must(scenario.call(self.base, old=True))
            self.template: Path | None = self.folder / "template"
            shutil.rmtree(self.template, ignore_errors=True)
            shutil.copytree(self.work, self.template)
        else:
            self.template = None
        before = picture_of(scenario, self.work)
        started = time.monotonic()
        self._must(self._call(scenario, old), Fault(self.work))
        seen, modules = json.loads(self.log.with_suffix(".seen").read_text())
        for name in modules:  # the cases start with what the command needs
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        operations = [(name, path) for name, path in seen]
        after = picture_of(scenario, self.work)
        assert set(after) == set(scenario.outputs) and after != before, (before, after)
        return before, after, operations, time.monotonic() - started

    def _call(self, scenario: Scenario, old: bool) -> list[str]:
        return [*scenario.call(self.base), *(["--force"] if old and scenario.force else [])]

    def _case(
        self, case: Case, before: Picture, after: Picture, *, fault: Fault | None = None,
        number: signal.Signals | None = None, moment: float = 0.0,
    ) -> Case:  # fmt: skip
        scenario = case.scenario
        self._fresh(self.template)
        words = self._call(scenario, case.old)
        code = self._run(words, fault, number, moment)
        told = self.log.read_text(errors="replace")
        died = code == -signal.SIGKILL
        case.problems += _wrong_pictures(picture_of(scenario, self.work), before, after, case.old)
        case.problems += _strays(
            scenario,
            self.work,
            litter=died or "remove" in case.at or "rmdir" in case.at,
            private_allowed=True,
        )
        if not died:
            case.problems += _badly_told(case, code, told)
        again = self._again(scenario, words, case.old)
        code = self._run(again)
        if code != 0:
            case.problems.append(
                f"the next run fails with {code}: {self.log.read_text(errors='replace')[-300:]}"
            )
        elif (found := picture_of(scenario, self.work)) != after:
            case.problems.append(f"the next run makes something else: {found} instead of {after}")
        case.problems += [
            f"after the next run: {text}" for text in _strays(scenario, self.work, litter=False)
        ]
        return case

    def _again(self, scenario: Scenario, words: list[str], old: bool) -> list[str]:
        """What a person would type: --resume where something is left to go on from; --force for pictures half drawn."""
        out = self.work / scenario.outputs[0]
        left = any(private_file(out, use).exists() for use in PRIVATE_USES)
        if scenario.training and left and (old or not out.exists()):
            return [*words, "--resume"]
        drawn = not old and len(scenario.outputs) > 1 and not out.exists()
        return (
            [*words, "--force"]
            if drawn and any((self.work / o).exists() for o in scenario.outputs)
            else words
        )

    def _run(
        self, words: Sequence[str], fault: Fault | None = None, number: signal.Signals | None = None,
        moment: float = 0.0,
    ) -> int:  # fmt: skip
        """Exit code of a command in a process of its own, minus the signal that it died of."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(self._child(words, fault))
        if number is not None:
            time.sleep(moment)
            os.kill(child, number)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _child(self, words: Sequence[str], fault: Fault | None) -> int:
        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if self.work.is_dir():
                os.chdir(self.work)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            tempfile.tempdir = str(self.folder)
            if fault is not None:
                fault.install()
            code = seqres([*words, "--quiet"])
            if fault is not None and fault.kind == "none":
                self.log.with_suffix(".seen").write_text(json.dumps([fault.seen, sorted(sys.modules)]))
            return code
        except BaseException:
            traceback.print_exc()
            return 99
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def chosen_points(operations: Sequence[tuple[str, str]], kills: int, refusals: int) -> list[tuple[Kind, int]]:
    """Faults and places, spread over the run; `kills=0`: at every operation that is no write, and in six writes."""
    writes = [i for i, (name, _) in enumerate(operations, 1) if name == "write"]
    others = [i for i, (name, _) in enumerate(operations, 1) if name != "write"]
    all_kinds = sorted(others + _spread(writes, 6))
    places: dict[Kind, Sequence[int]] = {
        "kill": _spread(others, kills or len(others)),
        "torn": _spread(writes, kills or 6),
        "full": _spread(all_kinds, refusals),
        "broken": _spread(all_kinds, refusals),
        "read-only": [1] if refusals else [],
    }
    return [(kind, at) for kind, chosen in places.items() for at in chosen]


def _spread(places: Sequence[int], most: int) -> list[int]:
    """The middles of so many equal parts."""
    if len(places) <= most:
        return list(places)
    return [places[(2 * i + 1) * len(places) // (2 * most)] for i in range(most)]


def picture_of(scenario: Scenario, work: Path) -> Picture:
    return {name: _picture(work / name) for name in scenario.outputs if (work / name).exists()}


def _picture(path: Path) -> str:
    if path.suffix == ".h5":
        try:
            findings = verify_artifact(path)
            with open_artifact(path) as artifact:
                return f"damaged: {findings}" if findings else artifact.digest
        except Exception as error:
            return f"damaged: {error}"
    if path.is_file():
        return hashlib.sha256(_content(path)).hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _LITTER.fullmatch(p.name))
    listed = [f"{p.relative_to(path)} {hashlib.sha256(_content(p)).hexdigest()}" for p in files]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _content(path: Path) -> bytes:
    """Without the record of when and how it was made."""
    content = path.read_bytes()
    if path.name == "o.json":
        with contextlib.suppress(json.JSONDecodeError):  # torn: its bytes say so
            document = json.loads(content)
            if isinstance(document, dict):
                document.pop("provenance", None)
            return json.dumps(document, sort_keys=True).encode()
    return content


def _wrong_pictures(found: Picture, before: Picture, after: Picture, old: bool) -> list[str]:
    problems = []
    for name, picture in after.items():
        allowed = {picture, before.get(name)}
        if Path(name).name == "drawn":  # pictures appear one by one
            continue
        if found.get(name) not in allowed:
            problems.append(f"{name} is neither the old nor the new one: {found.get(name)}")
    return problems


def _strays(scenario: Scenario, work: Path, *, litter: bool, private_allowed: bool = False) -> list[str]:
    out = work / scenario.outputs[0]
    private = {private_file(out, use).name for use in PRIVATE_USES} if private_allowed else set()
    problems = []
    for folder in (work, work / "drawn"):
        for path in folder.iterdir() if folder.is_dir() else ():
            known = path.name in scenario.outputs or (folder != work and path.suffix == ".png")
            left = _LITTER.fullmatch(path.name) is not None
            if not known and not (litter and left) and path.name not in private:
                problems.append(f"{path.relative_to(work)} is left")
    return problems


def _badly_told(case: Case, code: int, told: str) -> list[str]:
    problems = []
    if case.fault in ("SIGTERM", "SIGINT"):
        wanted = {0, 143 if case.fault == "SIGTERM" else 130}
        if code not in wanted:
            problems.append(f"exit code {code}, not {wanted}: {told[-300:]}")
    elif code not in (0, 1, 2, 3):
        problems.append(f"exit code {code}: {told[-300:]}")
    if "Traceback" in told or "unexpected" in told:
        problems.append(f"told as {told[-600:]}")
    return problems
