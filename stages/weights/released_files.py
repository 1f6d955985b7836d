"""Read files that came from elsewhere without running what is in them: checkpoints, word lists, word vectors.

A checkpoint goes through `torch.load(weights_only=True)` with stand-ins for numpy's numbers; a pickled word list through
an unpickler that resolves no name at all.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.data.readers.plain_numpy import STAND_INS
from stages.errors import ArtifactError, first_of
from stages.file_kinds import refuse_other_kinds
from stages.nearest import cannot_read, missing_hint
from stages.untrusted import plain, require_regular
from stages.weights.checkpoint_pickle import look_through, refused_names

STATE_KEYS = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "params")
# DataParallel, torch.compile, Fabric, Lightning
WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model.", "net.")
AVERAGE_KEYS = ("ema_state_dict", "model_ema", "ema")
_ZIP = b"PK\x03\x04"
_SHOWN = 8
_MOST_SHARED = 4  # times the size of the file, when names share their numbers
_MOST_BESIDE = 0.1  # of the names in a checkpoint may lie beside the model; one always
_LARGEST_WORD_LIST = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a checkpoint file by released name, without what wrappers put before it.

    Attributes:
        state: the raw weights. average: their moving average, None when the file has none.
        facts: numbers beside them (epoch, scores), for the record. ignored: entries that are not weights.
        stripped: what wrappers had put before the names, e.g. `module.`. beside: tensors that had no such name.
    """

    state: dict[str, Tensor]
    average: dict[str, Tensor] | None
    facts: dict[str, float] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    stripped: str = ""
    beside: list[str] = field(default_factory=list)


def read_checkpoint(path: Path) -> Checkpoint:
    """A `.pth` file as the releases save it: a state dict, or a dict with `state_dict`, `ema_state_dict`, optimiser …

    Raises:
        ArtifactError: the file is damaged, holds objects that could run code (each is named), or no state dict.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise ArtifactError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    key = next((k for k in STATE_KEYS if isinstance(content.get(k), Mapping)), None)
    if key is None:
        state, stripped, beside = _tensors(content, path)
        return Checkpoint(state, None, stripped=stripped, beside=beside)
    average_key = next((k for k in AVERAGE_KEYS if isinstance(content.get(k), Mapping)), None)
    average = None if average_key is None else _tensors(content[average_key], path)[0]
    others = {str(name): _number(value) for name, value in content.items() if name not in (key, average_key)}
    facts = {name: number for name, number in others.items() if number is not None}
    ignored = [name for name in others if name not in facts]
    state, stripped, beside = _tensors(content[key], path)
    return Checkpoint(state, average, facts, ignored, stripped, beside)


def _load(path: Path) -> Any:
    if not path.exists():
        raise ArtifactError(f"no such file: {path}", hint=missing_hint(path))
    require_regular(path, what="checkpoint")
    refuse_other_kinds(path, but="zip archive")  # which checkpoints are
    with path.open("rb") as stream:
        is_zip = stream.read(4) == _ZIP
    try:
        if is_zip and not zipfile.is_zipfile(path):
            raise ArtifactError(f"{path} is cut off: its end is missing", hint="fetch or copy the file again")
        if refused := refused_names(path, is_zip=is_zip):
            raise _refusal(path, refused)
        with _harmless_types():
            if is_zip:
                refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
                if refused:
                    raise _refusal(path, sorted(refused))
            return torch.load(path, map_location="cpu", weights_only=True)
    except ArtifactError:
        raise
    except pickle.UnpicklingError as error:
        named = re.findall(r"(?:GLOBAL|class|global)\s+([A-Za-z_][\w.]*\.\w+)", str(error))
        if named:
            raise _refusal(path, sorted(set(named))) from error
        raise _damaged(path, error) from error
    # torch and zipfile raise many kinds for a file that is cut off or no checkpoint
    except Exception as error:
        raise _damaged(path, error) from error


def _refusal(path: Path, names: list[str]) -> ArtifactError:
    whole = any(
        ".nn." in n or ".models." in n or n.startswith(("models.", "model.", "__main__.")) for n in names
    )
    return ArtifactError(
        f"{path} holds {'a whole pickled module' if whole else 'objects that are not plain tensors'}, and is refused",
        facts=[f"refused: {n}" for n in first_of(names, _SHOWN)],
        hint="where the file was made and is trusted, save the weights alone: torch.save({'state_dict': model.state_dict()}, …)",
    )


def _damaged(path: Path, error: Exception) -> ArtifactError:
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return ArtifactError(
        f"{path} is no checkpoint that can be read",
        facts=[f"{type(error).__name__}: {words[:160]}"],
        hint="is the download complete? compare its size with the source's",
    )


@contextmanager
def _harmless_types() -> Iterator[None]:
    """Numbers of numpy, as scores of an epoch are saved, by the stand-ins for it: numpy's own types crash on a state that
    a stranger made."""
    stand_ins: list[Any] = [(stand_in, ".".join(name)) for name, stand_in in STAND_INS.items()]
    with torch.serialization.safe_globals(stand_ins):
        yield


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float | np.number) else None


def _tensors(state: Mapping[Any, Any], path: Path) -> tuple[dict[str, Tensor], str, list[str]]:
    """Checked, without what wrappers put before the names, that prefix, and the names left out because they lie beside it;
    half precision becomes float32."""
    if "optimizer" in state or "optimizer_state_dict" in state or "param_groups" in state:
        raise ArtifactError(
            f"{path} holds the state of an optimiser, but no weights",
            facts=[f"its entries: {', '.join(map(str, list(state)[:_SHOWN]))}"],
            hint="give the checkpoint that was saved beside it",
        )
    wrong = [str(k) for k, v in state.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if wrong or not state:
        raise ArtifactError(
            f"{path} holds no state dict",
            facts=[f"not a tensor: {k}" for k in wrong[:10]] or ["it is empty"],
            hint="expected tensors by name, or a dict with the key state_dict",
        )
    _require_stored(state, path)
    prefix, beside = _wrappers(list(state))
    out = {}
    for name, tensor in state.items():
        if name in beside:
            continue
        value = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ArtifactError(f"{path}: {name} holds numbers that are not finite")
        out[name.removeprefix(prefix).replace("._orig_mod.", ".")] = value
    return out, prefix, beside


def _require_stored(state: Mapping[str, Tensor], path: Path) -> None:
    """A tensor can claim any size: as a view that repeats a few numbers, without numbers, or as a sparse one."""
    left = _MOST_SHARED * path.stat().st_size
    for name, tensor in state.items():
        plain_tensor = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        left -= tensor.numel() * tensor.element_size() if plain_tensor else 0
        if left < 0 or not plain_tensor:
            raise ArtifactError(
                f"{path} holds no numbers for {plain(name)}",
                facts=[f"it claims the shape {tuple(tensor.shape)}"],
            )


def _wrappers(names: list[str]) -> tuple[str, list[str]]:
    """What wrappers put before nearly every name (`module._orig_mod.`, or nothing), and the few names beside.

    Beside lie the numbers of a metric or a loss in a Lightning module, and the count of torch's AveragedModel.
    """
    prefix, inside = "", names
    for _ in range(len(WRAPPERS)):
        for wrapper in WRAPPERS:
            found = [n for n in inside if n.startswith(prefix + wrapper)]
            if found and len(names) - len(found) <= max(_MOST_BESIDE * len(names), 1):
                prefix, inside = prefix + wrapper, found
                break
    return prefix, sorted(set(names) - set(inside)) if prefix else []


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, texts, lists and dicts only: every name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_vocabulary(path: Path) -> list[str]:
    """Words in the order of their numbers, from token_to_ix.pkl or a JSON file of the same dict.

    Raises:
        ArtifactError: the file refers to any class or function (it is named), or is no dict word -> 0 … n-1.
    """
    try:
        require_regular(path, what="word list")
        size = path.stat().st_size
        if size > _LARGEST_WORD_LIST:
            raise ArtifactError(f"{path} is no word list: {size:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from error
    refuse_other_kinds(path, but="JSON", hint="give the release's token_to_ix.pkl")
    try:
        if path.suffix == ".json":
            table = json.loads(data.decode("utf-8-sig"))
        else:
            look_through(io.BytesIO(data))
            table = _PlainUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        name = str(error)
        refused = re.fullmatch(r"[\w.]+\.\w+", name)
        if refused:
            raise ArtifactError(
                f"{path} holds objects that are not plain words and numbers, and is refused",
                facts=[f"refused: {name}"],
                hint="a word list is a pickled or JSON dict of word -> number",
            ) from error
        raise _no_words(path, name) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _no_words(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(table, dict) or not all(
        isinstance(k, str) and type(v) is int for k, v in table.items()
    ):
        raise _no_words(path, f"it holds a {type(table).__name__}")
    words = sorted(table, key=lambda w: table[w])
    if [table[w] for w in words] != list(range(len(words))) or not words:
        raise _no_words(path, f"the numbers of its {len(words)} words are not 0 … {len(words) - 1}")
    return words


def _no_words(path: Path, fact: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is no word list", facts=[fact[:160]], hint="give the release's token_to_ix.pkl"
    )


def read_word_vectors(path: Path) -> NDArray[np.float32]:
    """(words, D) float32 from word_emb.npz (array `word_emb`, or the only one in the file)."""
    refuse_other_kinds(path, but="zip archive", hint="give the release's word_emb.npz")
    try:
        require_regular(path, what="file of word vectors")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = [name for name in stored.files if name == "word_emb"] or stored.files
            vectors = stored[names[0]] if len(names) == 1 else None
    except OSError as error:
        raise cannot_read(path, error) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        refused = "Object arrays" in str(error)
        words = "refused: an array of Python objects" if refused else f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{path} holds no word vectors that can be read", facts=[words[:160]]) from error
    if not isinstance(vectors, np.ndarray):  # numpy gives the bytes of what is no array
        found = "several arrays" if vectors is None else "a file that is no array"
    elif vectors.ndim == 2 and vectors.dtype.kind == "f" and np.isfinite(vectors).all():
        return np.asarray(vectors, np.float32)
    else:
        found = f"{vectors.dtype} of shape {vectors.shape}"
    raise ArtifactError(
        f"{path} holds no table of word vectors", facts=[f"found {found}, expected (words, width)"]
    )
