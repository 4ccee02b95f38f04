"""Distributed training: several processes train one model, each on its share of every batch.

    torchrun --nproc-per-node 2 -m vreid train RECIPE --data DATA --out RUN

The batches are the same as in a single process. Each process runs its share through the network, then outputs and
labels are gathered: every process computes the losses of the whole batch and back-propagates through its own share.
Results differ from a single process by batch normalisation, which uses the share (`TrainConfig.sync_batchnorm` changes
that on GPUs), and by rounding. All processes share the run folder; the first one writes. Shapes: B images of the whole
batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.models.reid_model import TrainOutputs

Value = TypeVar("Value")


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the process group that torchrun started; without torchrun, do nothing.

    Args:
        device: "auto", "cuda" or "cpu"; with several processes, the GPU is that of LOCAL_RANK.

    Yields:
        The device of this process.

    Raises:
        InputError: there are more processes than GPUs on this machine, or `device` names a single GPU.

    Example:
        >>> with processes("cpu") as place:
        ...     place
        'cpu'
    """
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield device
        return
    if device.startswith("cuda:"):
        raise InputError(f"--device {device}: each process takes a GPU of its own; use --device cuda.")
    if device in ("auto", "cuda") and torch.cuda.is_available():
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise InputError(f"There are more processes on this machine than GPUs; use --nproc-per-node {count}.")
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
        distributed.init_process_group("nccl", device_id=torch.device(device))
    else:
        distributed.init_process_group("gloo")
    yield device
    distributed.destroy_process_group()  # not after an error: it would wait for blocked processes


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: this one is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> ProcessGroup:
        """Return torch's process group; a group of one if there is none."""
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
            distributed.barrier()

    def agree(self, make: Callable[[], Value]) -> Value:
        """Return to all processes the value that the first one computes."""
        if self.size == 1:
            return make()
        held = [make() if self.first else None]
        distributed.broadcast_object_list(held)
        return held[0]  # type: ignore[return-value]

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate the parts (B / size, ...) of all processes in order of rank: (B, ...).

        The gradient flows to the process's own part, times `size`, because `parallel` averages the gradients of the
        processes and the whole batch needs their sum.
        """
        if self.size == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(parts, part.detach().contiguous())
        if part.requires_grad:
            own = part.view_as(part)  # scale only the gradient of this use: f_t also feeds the classifier
            own.register_hook(lambda gradient: gradient * self.size)  # type: ignore[no-untyped-call]
            parts[self.rank] = own
        return torch.cat(parts)

    def gather_all(
        self, outputs: TrainOutputs, labels: Mapping[str, Tensor]
    ) -> tuple[TrainOutputs, Mapping[str, Tensor]]:
        """Gather outputs and labels of the whole batch."""
        if self.size == 1:
            return outputs, labels
        join = self.gather
        whole = TrainOutputs(
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
        return DistributedDataParallel(module, find_unused_parameters=some_unused)

    def gradients_wait(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients accumulate locally, without synchronisation."""
        wait: AbstractContextManager[None] = module.no_sync() if self.size > 1 else nullcontext()  # type: ignore[operator]
        return wait

    def seed_step(self, seed: int, step: int) -> None:
        """Seed dropout differently in each process, and reproducibly after a resume."""
        if self.size > 1:
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
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
