"""Where a name of a pretrained model leads: a local folder, the hub, or the copies that were fetched before.

The libraries try an unreachable hub again and again for half a minute; here it is asked once, for a few seconds.
"""

import functools
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

from stages.errors import ArtifactError
from stages.file_kinds import what_file_is
from stages.nearest import file_hint

PATIENCE = 4.0  # seconds that the hub has to answer
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILE_ENDINGS = (
    ".pth", ".pt", ".ckpt", ".bin", ".weights", ".safetensors", ".onnx", ".h5", ".pkl", ".npz", ".zip",
)  # fmt: skip
_HINT = "give a local folder with config.json and model.safetensors, or a hub id while the hub can be reached"


def reachable_source(source: str, what: str = "pretrained model") -> str:
    """`source` for `from_pretrained`: a local folder, a hub id, or the folder of its copy when the hub is out of reach.

    Raises:
        ArtifactError: a path that leads nowhere or to a file, no name of the hub, or the hub does not answer.
    """
    path = Path(source)
    if path.is_dir():
        return source
    if path.exists():
        kind = what_file_is(path)
        raise ArtifactError(
            f"{source} is a file, a pretrained model is a folder",
            facts=[f"it is {kind}"] if kind else [],
            hint=_HINT,
        )
    if _is_path(source):
        raise ArtifactError(
            f"no {what} at {source!r}", facts=["there is no such folder"], hint=file_hint(source) or _HINT
        )
    if hub_answers():
        return source
    copy = _copy_of(source)
    if copy is not None:
        return copy
    raise ArtifactError(
        f"no {what} at {source!r}",
        facts=["there is no such folder, no copy of it was fetched before, and the hub cannot be reached"],
        hint=file_hint(source) or _HINT,
    )


def _is_path(source: str) -> bool:
    """Whether a name can be no hub id: OWNER/NAME or NAME, of letters, digits, points, dashes and underscores."""
    if not _HUB_ID.fullmatch(source) or source.lower().endswith(_FILE_ENDINGS):
        return True
    owner, _, name = source.partition("/")
    return bool(name) and Path(owner).is_dir()


@functools.cache
def hub_answers() -> bool:
    """Whether the hub answers at all (an error page is an answer), through the proxy that is set; asked once a process."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")

    def ask() -> None:
        try:
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, ValueError):
            return
        answered.set()

    # a thread, because looking up a name has no time limit of its own
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()


def _copy_of(source: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    return str(Path(found).parent) if isinstance(found, str) else None
