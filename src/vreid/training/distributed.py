"""Distributed jobs: several processes, one per GPU, do one job and get the result of one process.

    torchrun --nproc-per-node 2 -m vreid train RECIPE --data DATA --out RUN

Training: the batches are the same as in a single process. Each process runs its share through the network, then outputs
and labels are gathered: every process computes the losses of the whole batch and back-propagates through its own share.
Results differ from a single process by batch normalisation, which uses the share (`TrainConfig.sync_batchnorm` changes
that on GPUs), and by rounding. Extraction and translation: whole batches go around among the processes, so that the
results are those of a single process to the last bit. All processes share the output folder; the first one writes.

torch is imported by groups of several processes only. Shapes: B images of the whole batch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from vreid.data.sampling import Share
from vreid.data.seeds import generator
from vreid.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vreid.models.reid_model import TrainOutputs

Value = TypeVar("Value")
PATIENCE = timedelta(days=7)
"""Time for which processes wait for each other, e.g. while the first one clusters; torchrun ends all if one fails."""
_REPORTED, _SHOWN = "vreid/errors", "vreid/shown"


def launched() -> int:
    """Return the number of processes that torchrun has started together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def first_launched() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only process."""
    return launched() == 1 or os.environ["RANK"] == "0"


def own_device(device: str) -> str:
    """Return the device of this process: of several that torchrun started, the GPU with the number LOCAL_RANK.

    Args:
        device: "auto", "cuda", "cpu", or, in a single process, "cuda:1".

    Raises:
        InputError: there are more processes than GPUs on this machine, or `device` names one GPU for all of them.
    """
    import torch

    if launched() == 1:
        return device
    if device.startswith("cuda:"):
        raise InputError(f"--device {device}: each process takes a GPU of its own; use --device cuda.")
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= count:
        raise InputError(f"There are more processes on this machine than GPUs; use --nproc-per-node {count}.")
    torch.cuda.set_device(local)
    return f"cuda:{local}"


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the process group that torchrun started; without torchrun, do nothing.

    Args:
        device: as in `own_device`.

    Yields:
        The device of this process.

    Raises:
        InputError: as `own_device`; or another process has ended.

    Example:
        >>> with processes("cpu") as place:
        ...     place
        'cpu'
    """
    if launched() == 1:
        yield device
        return
    import torch
    from torch import distributed

    device = own_device(device)
    if device.startswith("cuda:"):
        distributed.init_process_group("nccl", device_id=torch.device(device), timeout=PATIENCE)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise InputError(
                "Another of the processes has ended, so this one cannot go on; run the same command again to continue "
                "(train, adapt: with --resume)."
            ) from error
        raise
    distributed.destroy_process_group()  # not after an error: it would wait for blocked processes


@contextmanager
def reporting_once() -> Iterator[bool]:
    """Context in which processes report the error that ends them.

    Yields:
        Whether this process is to print it: the first of all that fail. The others stay until it has printed.
    """
    store = None
    if launched() > 1:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        with suppress(RuntimeError, KeyError, ValueError):  # else each process reports
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    first = store is None or store.add(f"{_REPORTED}/{attempt}", 1) == 1
    yield first
    with suppress(RuntimeError):
        if store is not None and first:
            store.set(f"{_SHOWN}/{attempt}", "")
        elif store is not None:
            store.wait([f"{_SHOWN}/{attempt}"])


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that do one job together: this one is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> ProcessGroup:
        """Return torch's process group; a group of one if there is none."""
        if sys.modules.get("torch") is None:  # not imported (tests halt its import by None)
            return cls()
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier()

    def agree(self, make: Callable[[], Value]) -> Value:
        """Return to all processes the value that the first one computes; an `InputError` there is raised in all."""
        if self.size == 1:
            return make()
        from torch import distributed

        held = [_value_or_error(make) if self.first else None]
        distributed.broadcast_object_list(held)
        if isinstance(held[0], InputError):
            raise held[0]
        return held[0]  # type: ignore[return-value]

    def in_turn(self, own: Iterable[Value]) -> Iterator[Value]:
        """Iterate in all processes over the items of all: the first of each in order of rank, the second of each, ...

        If process r gives the items r, r + size, ... of a list (`turn.of`), these are the items of the list in order.
        An `InputError` of one process is raised in all.
        """
        if self.size == 1:
            yield from own
            return
        from torch import distributed

        mine = iter(own)
        rounds: list[list[Value] | InputError] = [[]] * self.size
        while True:
            distributed.all_gather_object(rounds, _value_or_error(lambda: list(islice(mine, 1))))
            for given in rounds:
                if isinstance(given, InputError):
                    raise given
                yield from given
            if not all(rounds):
                return

    @property
    def turn(self) -> Share:
        """The share of this process if whole batches go around."""
        return Share(self.rank, self.size)

    def gather(self, part: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Concatenate the parts of all processes in order of rank: (B, ...).

        The gradient flows to the process's own part, times `size`, because `parallel` averages the gradients of the
        processes and the whole batch needs their sum.

        Args:
            part: the rows of this process.
            sizes: number of rows of each process; by default B / size.
        """
        if self.size == 1:
            return part
        import torch
        from torch import distributed

        sizes = sizes or [len(part)] * self.size
        sent = part.detach().contiguous()
        if len(part) < max(sizes):  # all processes send equally many rows
            sent = torch.cat([sent, sent.new_zeros(max(sizes) - len(part), *part.shape[1:])])
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        distributed.all_gather(parts, sent)
        parts = [one[:size] for one, size in zip(parts, sizes, strict=True)]
        if part.requires_grad:
            own = part.view_as(part)  # scale only the gradient of this use: f_t also feeds the classifier
            own.register_hook(lambda gradient: gradient * self.size)  # type: ignore[no-untyped-call]
            parts[self.rank] = own
        return torch.cat(parts)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.size == 1 or not tensors:
            return
        import torch
        from torch import distributed

        joined = torch.cat([tensor.detach().flatten().float() for tensor in tensors])  # one message for all of them
        distributed.all_reduce(joined)
        joined /= self.size
        means = torch.split(joined, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def gather_all(
        self, outputs: TrainOutputs, labels: Mapping[str, Tensor], sizes: Sequence[int] = ()
    ) -> tuple[TrainOutputs, Mapping[str, Tensor]]:
        """Gather outputs and labels of the whole batch; `sizes` as in `gather`."""
        if self.size == 1:
            return outputs, labels

        def join(part: Tensor) -> Tensor:
            return self.gather(part, sizes)

        whole = type(outputs)(
            join(outputs.logits),
            join(outputs.pooled),
            tuple(map(join, outputs.local_logits)),
            tuple(map(join, outputs.local_pooled)),
            {name: join(said) for name, said in outputs.heads.items()},
        )
        return whole, {name: join(values) for name, values in labels.items()}

    def parallel(self, module: nn.Module, *, some_unused: bool = False) -> nn.Module:
        """Wrap a module to average its gradients over all processes; `some_unused`: some weights have no gradient."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, find_unused_parameters=some_unused)

    def gradients_wait(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients accumulate locally, without synchronisation."""
        wait: AbstractContextManager[None] = module.no_sync() if self.size > 1 else nullcontext()  # type: ignore[operator]
        return wait

    def seed_step(self, seed: int, step: int) -> None:
        """Seed dropout differently in each process, and reproducibly after a resume."""
        if self.size > 1:
            import torch

            torch.manual_seed(int(generator(seed, "dropout", self.rank, step).integers(2**63)))

    def synchronise_batchnorm(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Replace batch normalisation by SyncBatchNorm over the whole batch; names of weights do not change.

        Raises:
            InputError: there are several processes but no GPUs.
        """
        if self.size == 1:
            return model
        if device.type != "cuda":
            raise InputError("sync_batchnorm needs GPUs; set it to false, or train in one process.")
        from torch import nn

        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted


def _value_or_error(make: Callable[[], Value]) -> Value | InputError:
    try:
        return make()
    except InputError as error:
        return error
