"""A pretended GPU: tensors that are on cuda:0, with values, on a machine without one; stricter than a GPU.

torch's own `FakeTensorMode` pretends devices too, but its tensors have no values, so nothing that sorts, clusters or
compares can run. Here every operation runs on the CPU, with a GPU's rules:

* Tensors of the GPU and of the host do not mix. Neither do indices of the host, which a GPU takes, with a copy.
* What waits for the device is counted: copies that are blocking or whose host side is not pinned, values that are
  read, shapes that depend on values. Within `asynchronous` it is an error.
* A copy to the host that does not wait holds garbage until an event after it, or the device, is waited for.
* `memory` bounds the bytes of all its tensors: the one that is too much raises `torch.OutOfMemoryError`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
HOST = torch.device("cpu")
aten = torch.ops.aten


class WaitsForDevice(RuntimeError):
    """Something waits for the device where nothing may."""


class _Life:
    """Ends with its tensor."""


class DeviceTensor(Tensor):
    """A tensor on the pretended GPU; `held` has its values on the CPU.

    To Python it is on cuda:0. To torch's C++ it is on the meta device, so that autograd asks no driver for a stream.
    """

    held: Tensor
    life: _Life

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        with torch.inference_mode(False):
            layout = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
            made = Tensor._make_subclass(cls, layout, False)
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FACTS:
            return _FACTS[func]
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], DeviceTensor):
            args = (args[0], DEVICE, args[1].dtype)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor of a pretended GPU that is gone")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.held})"


_FACTS = {Tensor.device.__get__: DEVICE, Tensor.is_cuda.__get__: True, Tensor.is_meta.__get__: False}  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Copy:
    """A copy between host and device; `waited`: the host stood still until all queued work was done."""

    to_device: bool
    num_bytes: int
    waited: bool


class PretendGpu(TorchDispatchMode):
    """`with PretendGpu() as gpu:` torch has the device cuda:0.

    Attributes:
        memory: bytes of memory.
        used, peak: bytes of all tensors, now and at most.
        copies: copies between host and device so far.
        waits: what has waited for the device so far, in words.
        in_flight: copies to the host that may not be there yet: target and values.
        meta: whether the present call of torch names the meta device.
    """

    name = str(DEVICE)

    def __init__(self) -> None:
        super().__init__()
        self.memory = float("inf")
        self.used = self.peak = 0
        self._tensors: Counter[int] = Counter()  # of each storage
        self.copies: list[Copy] = []
        self.waits: list[str] = []
        self.in_flight: list[tuple[Tensor, Tensor]] = []
        self.meta = False
        self._pinned: dict[int, Any] = {}  # storages by address; kept, so that no address is used again
        self._may_wait = True
        self._settings = ExitStack()

    def __enter__(self) -> PretendGpu:
        super().__enter__()
        enter = self._settings.enter_context
        for patch in self._replaced():
            enter(patch)
        enter(_Calls(self))
        enter(torch.backends.cudnn.flags(enabled=False))  # its kernels are not on the CPU
        # `weight.data = moved` cannot change the class of `weight`; swapping the two tensors does.
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        self._settings.callback(torch.__future__.set_swap_module_params_on_conversion, before)
        return self

    def __exit__(self, *error: Any) -> None:
        self._settings.close()
        super().__exit__(*error)

    @contextmanager
    def asynchronous(self) -> Iterator[None]:
        """Raise `WaitsForDevice` for whatever waits, except for events."""
        before, self._may_wait = self._may_wait, False
        try:
            yield
        finally:
            self._may_wait = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):  # not in parts: inference
            TorchDispatchMode.__enter__(self)
            try:
                return func.decompose(*args, **kwargs)
            finally:
                TorchDispatchMode.__exit__(self, None, None, None)
        if func in (aten.is_pinned.default, aten._pin_memory.default):
            return self.pin(args[0]) if func is aten._pin_memory.default else self._is_pinned(args[0])
        if func in (aten._to_copy.default, aten.copy_.default):
            return self._copy(func, *args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        target = kwargs.get("device")
        on_device = bool(ours) if target is None else self._is_here(target)
        if not (ours or on_device):
            return func(*args, **kwargs)
        if ours:
            _require_one_device(func, tensors)
            self._count_waits(func, args, kwargs)
        if func is aten._fused_sdp_choice.default:
            return 0  # products and softmax: a GPU's kernels of attention are not on the CPU
        if target is not None:
            kwargs["device"] = HOST
        kwargs.pop("pin_memory", None)
        made = func(*tree_map(_held, tuple(args)), **tree_map(_held, kwargs))
        if any(tensor.shape != tensor.held.shape for tensor in ours):
            raise NotImplementedError(f"{func} changes the shape of a tensor in place")
        if not on_device:
            return made
        in_place = {id(tensor.held): tensor for tensor in ours}
        return tree_map(lambda one: in_place.get(id(one)) if id(one) in in_place else self._placed(one), made)

    def _is_here(self, device: Any) -> bool:
        """Whether `device` is this GPU; so is "meta", where C++ sees our tensors, unless Python asks for that."""
        kind = torch.device(device).type
        return kind == "cuda" or (kind == "meta" and not self.meta)

    def _placed(self, held: Any) -> Any:
        if not isinstance(held, Tensor):
            return held
        storage = held.untyped_storage()
        size, key = storage.nbytes(), storage._cdata
        if key not in self._tensors:
            if self.used + size > self.memory:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
            self.used += size
            self.peak = max(self.peak, self.used)
        self._tensors[key] += 1
        made = DeviceTensor(held)
        made.life = _Life()  # not the tensor: torch swaps none that has weak references
        weakref.finalize(made.life, self._gone, key, size)
        return made

    def _gone(self, storage: int, size: int) -> None:
        self._tensors[storage] -= 1
        if not self._tensors[storage]:
            del self._tensors[storage]
            self.used -= size

    def _is_pinned(self, tensor: Tensor) -> bool:
        return not isinstance(tensor, DeviceTensor) and tensor.untyped_storage()._cdata in self._pinned

    def pin(self, tensor: Tensor) -> Tensor:
        """Return a copy of a host tensor in pinned memory."""
        if isinstance(tensor, DeviceTensor):
            raise RuntimeError("cannot pin a tensor of the device: only dense CPU tensors can be pinned")
        pinned = tensor.clone()
        self._pinned[pinned.untyped_storage()._cdata] = pinned.untyped_storage()
        return pinned

    def _copy(self, func: Any, first: Tensor, *rest: Any, **options: Any) -> Any:
        """Run `aten._to_copy(source, device=..., non_blocking=...)` or `aten.copy_(target, source, non_blocking)`."""
        if func is aten._to_copy.default:
            source, target = first, options.pop("device", None)
            blocking = not options.pop("non_blocking", False)
            from_device = isinstance(source, DeviceTensor)
            to_device = from_device if target is None else self._is_here(target)
            if not (from_device or to_device):
                return func(source, **options, device=target)
            options.pop("pin_memory", None)
            made = func(_held(source), **options)
            out = self._placed(made) if to_device else made
            pinned = from_device or self._is_pinned(source)  # torch pins what is copied to the host
        else:
            source, out = rest[0], first
            blocking = not (rest[1] if len(rest) > 1 else options.get("non_blocking", False))
            from_device, to_device = isinstance(source, DeviceTensor), isinstance(out, DeviceTensor)
            func(_held(out), _held(source))
            pinned = self._is_pinned(source if to_device else out)
        if from_device == to_device:
            return out
        waited = blocking or not pinned
        self.copies.append(Copy(to_device, source.numel() * source.element_size(), waited))
        if waited:
            self._wait(f"copy of {tuple(source.shape)} {source.dtype} to the {'device' if to_device else 'host'}")
        elif from_device:
            self.in_flight.append((out, out.clone()))
            out.fill_(torch.nan if out.is_floating_point() else 77)
        return out

    def arrive(self, copies: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Complete copies to the host."""
        for target, values in copies:
            target.copy_(values)
        self.in_flight = [copy for copy in self.in_flight if not any(copy is other for other in copies)]

    def _count_waits(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        waits = torch.Tag.data_dependent_output in func.tags
        if "index" in func.__name__ and len(args) > 1 and isinstance(args[1], (list, tuple)):
            masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
            fills = func is not aten.index.Tensor and len(args[1]) == 1 and args[2].numel() == 1
            waits = bool(masks) and not fills
        elif torch.Tag.dynamic_output_shape in func.tags:
            waits = kwargs.get("output_size") is None
        if waits:
            self._wait(str(func))

    def _wait(self, what: str) -> None:
        self.waits.append(what)
        if not self._may_wait:
            raise WaitsForDevice(f"{what} waits for the device")

    def _replaced(self) -> list[Any]:
        """Replace the functions of torch that ask the driver, or would start it."""
        gpu, generator = self, torch.Generator()

        class Event:
            def __init__(self, **options: Any) -> None:
                self._copies: list[tuple[Tensor, Tensor]] = []

            def record(self, stream: Any = None) -> None:
                self._copies = list(gpu.in_flight)

            def synchronize(self) -> None:
                gpu.arrive(self._copies)

        answers: dict[str, Any] = {
            "Event": Event,
            "_lazy_init": lambda: None,
            "current_device": lambda: 0,
            "current_stream": lambda device=None: None,
            "device_count": lambda: 1,
            "empty_cache": lambda: None,
            "get_device_name": lambda device=None: "pretended GPU",
            "get_rng_state": lambda device="cuda": generator.get_state(),
            "is_available": lambda: True,
            "is_bf16_supported": lambda including_emulation=True: True,
            "is_current_stream_capturing": lambda: False,
            "max_memory_allocated": lambda device=None: gpu.peak,
            "set_device": lambda device: None,
            "set_rng_state": lambda state, device="cuda": generator.set_state(state),
            "synchronize": lambda device=None: gpu.arrive(gpu.in_flight),
        }
        patches = [mock.patch.object(torch.cuda, name, answer) for name, answer in answers.items()]
        idle = SimpleNamespace(is_capturing=lambda: False)
        answers = {
            "current_device_index": lambda: 0,
            "current_stream": lambda device=None: idle,
            "is_available": lambda: True,
            "set_device_index": lambda device: None,
        }
        patches += [mock.patch.object(torch.accelerator, name, answer) for name, answer in answers.items()]

        def pinned(data: Any, device: Any = None) -> Any:  # of a loader, in a thread without this mode
            return tree_map(lambda one: gpu.pin(one) if isinstance(one, Tensor) else one, data)

        return [*patches, mock.patch.object(torch.utils.data._utils.pin_memory, "pin_memory", pinned)]


class RealGpu:
    """A GPU, with what tests of both use of `PretendGpu`."""

    name = PretendGpu.name

    @contextmanager
    def asynchronous(self) -> Iterator[None]:
        """Raise an error for operations that wait for the device, as far as torch knows them."""
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class _Calls(TorchFunctionMode):
    """What torch does above the operations: autocast, and tensors of Python's values, whose way asks the driver."""

    def __init__(self, gpu: PretendGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or HOST).type == "cuda":
            return func(*args, **{**kwargs, "device": HOST}).to(DEVICE)
        if (func in LOWERED or func in RAISED) and torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda") if func in LOWERED else torch.float32
            args, kwargs = tree_map(lambda value: _cast(value, dtype), (tuple(args), kwargs))
        before = self._gpu.meta
        self._gpu.meta = any(_is_meta(value) for value in (*args, *kwargs.values()))
        try:
            return func(*args, **kwargs)
        finally:
            self._gpu.meta = before


def _is_meta(value: Any) -> bool:
    return value == "meta" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "meta"


def _cast(value: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(value, DeviceTensor) and value.dtype in (torch.float32, torch.bfloat16)
    return value.to(dtype) if floating and value.dtype != dtype else value


LOWERED = {
    *(functional.linear, functional.conv1d, functional.conv2d, functional.conv_transpose2d),
    *(functional.scaled_dot_product_attention, functional.bilinear, functional.prelu),
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm),
    *(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm, torch.einsum, torch.mv, Tensor.mv),
}
"""Functions that a GPU's autocast runs in its number type. torch's own autocast asks C++ for the device."""
RAISED = {
    *(functional.layer_norm, functional.group_norm, functional.cross_entropy, functional.nll_loss),
    *(functional.normalize, functional.softmax, functional.log_softmax, functional.l1_loss, functional.mse_loss),
    *(functional.smooth_l1_loss, functional.softplus, torch.softmax, Tensor.softmax, torch.log_softmax),
    *(Tensor.log_softmax, torch.norm, Tensor.norm, torch.linalg.vector_norm, torch.exp, Tensor.exp, torch.log),
    *(Tensor.log, torch.pow, Tensor.pow, Tensor.__pow__, torch.rsqrt, Tensor.rsqrt, torch.sum, Tensor.sum),
    *(torch.cumsum, Tensor.cumsum, torch.prod, Tensor.prod, torch.logsumexp, Tensor.logsumexp, torch.cdist),
}
"""Functions that it runs in float32."""


def _held(value: Any) -> Any:
    return value.held if isinstance(value, DeviceTensor) else value


def _require_one_device(func: Any, tensors: Sequence[Tensor]) -> None:
    """Raise if an operation on our tensors takes a tensor of the host; single numbers go along with its kernel."""
    strangers = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.ndim]
    if strangers:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({func} takes a tensor {tuple(strangers[0].shape)} of the host)"
        )
