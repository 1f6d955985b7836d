"""A GPU that is not there: tensors that say they lie on device `pretended:0`, with their values in the CPU's memory.

It tells what only shows on a GPU: an operation whose tensors lie on different devices is an error, as it is there, and
every operation that makes the host wait for the device is noted. Both hold for the real code with real values, forward
and backward. It is slow, and no promise about kernels: whether CUDA has an operation must be tried with one at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

CPU = torch.device("cpu")
# What needs a value, or a size that depends on values, on the host
WAITS = (
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::equal",
    "aten::unique_consecutive",
)  # fmt: skip
# Operations on packed sequences, whose sizes lie on the host; two of them also return those
SIZES_ON_HOST = ("aten::_pack_padded_sequence", "aten::_pad_packed_sequence", "aten::gru.data")
waits: Counter[str] = Counter()


class Pretended(Tensor):
    """A tensor of the pretended GPU; `values` is the CPU tensor behind it."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            layout=values.layout, device=DEVICE,
        )  # fmt: skip
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, dict(kwargs or {}))

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        waits["copy to the host"] += 1
        return self.values.tolist()


def _run(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name, to = operation.name(), kwargs.get("device")
    if name.startswith("aten::copy_"):
        return _copy(operation, *args, **kwargs)
    _refuse_mixed(name, args, kwargs, moves=to is not None)
    _note_wait(name, args, to, bool(kwargs.get("non_blocking")))
    if to is not None:
        kwargs["device"] = CPU
    run = GPU_ONLY.get(name, operation)
    out = run(*tree_map(_behind, args), **tree_map(_behind, kwargs))
    if to is not None and torch.device(to) == CPU:
        return out
    if name in SIZES_ON_HOST[:2]:
        return Pretended(out[0]), out[1]
    out = tree_map(lambda v: Pretended(v) if isinstance(v, Tensor) else v, out)
    return return_and_correct_aliasing(operation, args, kwargs, out)


def _copy(operation: Any, target: Tensor, source: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    """Between devices both ways; the host waits unless it copies to the device and need not know when."""
    if isinstance(source, Pretended) and not isinstance(target, Pretended):
        waits["copy to the host"] += 1
    elif (
        isinstance(target, Pretended)
        and _on_the_cpu(source)
        and not (rest[0] if rest else kwargs.get("non_blocking"))
    ):
        waits["copy from the host"] += 1
    operation(_behind(target), _behind(source), *rest, **kwargs)
    return target


def _refuse_mixed(name: str, args: Any, kwargs: Any, *, moves: bool) -> None:
    """Single numbers may lie on the CPU, as CUDA allows; a CPU tensor alone is one that is on its way."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    here = [t for t in tensors if not isinstance(t, Pretended) and t.dim()]
    if here and not name.startswith(SIZES_ON_HOST) and not (moves and len(tensors) == 1):
        raise RuntimeError(
            f"{name}: a tensor of shape {tuple(here[0].shape)} lies on the CPU, others on {DEVICE}"
        )


def _note_wait(name: str, args: tuple[Any, ...], to: Any, non_blocking: bool) -> None:
    by_mask = name.startswith(("aten::index.", "aten::index_put")) and any(
        t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
    )
    if (
        name.split(".")[0] in WAITS
        or by_mask
        or (name.startswith("aten::repeat_interleave") and len(args) < 3)
    ):
        waits[name] += 1
    elif to is not None and torch.device(to) == CPU:
        waits["copy to the host"] += 1
    elif to is not None and not non_blocking and args and _on_the_cpu(args[0]):
        waits["copy from the host"] += 1


def _on_the_cpu(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, Pretended) and value.dim() > 0


def _behind(value: Any) -> Any:
    return value.values if isinstance(value, Pretended) else value


def _gru_cell(
    from_input: Tensor, from_state: Tensor, state: Tensor, bias: Tensor, state_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The fused cell that other devices than the CPU have: (B, 3H) gates, (B, H) state -> state, (B, 5H) workspace."""
    r_in, z_in, n_in = (from_input + bias).chunk(3, 1)
    r_state, z_state, n_state = (from_state + state_bias).chunk(3, 1)
    r, z = (r_in + r_state).sigmoid(), (z_in + z_state).sigmoid()
    n = (n_in + r * n_state).tanh()
    return n + z * (state - n), torch.cat((r, z, n, state, n_state), 1)


def _gru_cell_backward(grad: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    r, z, n, state, n_state = workspace.chunk(5, 1)
    g_n = grad * (1 - z) * (1 - n * n)
    g_z = grad * (state - n) * z * (1 - z)
    g_r = g_n * n_state * r * (1 - r)
    to_input, to_state = torch.cat((g_r, g_z, g_n), 1), torch.cat((g_r, g_z, g_n * r), 1)
    biases = (to_input.sum(0), to_state.sum(0)) if has_bias else (None, None)
    return to_input, to_state, grad * z, *biases


GPU_ONLY = {
    "aten::_thnn_fused_gru_cell": _gru_cell,
    "aten::_thnn_fused_gru_cell_backward": _gru_cell_backward,
}


def _from_nothing(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Operations that torch finds no tensor of ours in: those that make one, and copies from the CPU."""
    return _run(operation, args, kwargs)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """The device, for `--device`. Inside, inference mode is no_grad: tensors of our own kind cannot be used in it."""
    mode, entered = torch.inference_mode, []

    def enter(self: Any) -> None:
        entered.append(torch.no_grad() if self.mode else torch.enable_grad())
        entered[-1].__enter__()

    def leave(self: Any, *error: Any) -> None:
        entered.pop().__exit__(*error)

    before = (mode.__enter__, mode.__exit__)
    mode.__enter__, mode.__exit__ = enter, leave  # type: ignore[method-assign,assignment]
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(list, device=...) is made on the CPU and copied
    try:
        yield DEVICE
    finally:
        mode.__enter__, mode.__exit__ = before  # type: ignore[method-assign]
        torch._C._set_only_lift_cpu_tensors(False)


@contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """How often the host waited for the device inside the block, by operation."""
    waits.clear()
    yield waits


class _Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("pretended", backend_module=_Backend())
DEVICE = torch.device("pretended", 0)
_LIBRARY = torch.library.Library("_", "IMPL")
_LIBRARY.fallback(_from_nothing, "PrivateUse1")
