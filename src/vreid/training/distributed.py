"""Several processes that train one model, each on its share of every batch; torchrun starts them.

    torchrun --nproc-per-node 2 -m vreid train RECIPE --data DATA --out RUN

The batches are those of one process. Each process runs its share through the network, then outputs and labels of all
are gathered: every process computes the losses of the whole batch, mined and averaged over all of it, and sends their
gradients back through its own share. What differs from one process is batch normalisation, which sees a share
(`TrainConfig.sync_batchnorm` ends that on GPUs), and rounding. The run folder is one that all processes see; the first
writes. Shapes: B images of the whole batch.
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
    """Join the processes that torchrun started; without torchrun nothing happens.

    Args:
        device: "auto", "cuda" or "cpu"; with several processes a GPU is that of LOCAL_RANK.

    Yields:
        The device of this process.

    Raises:
        InputError: more processes than GPUs on this machine, or all of them on one.

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
    distributed.destroy_process_group()  # not after an error: that would wait for processes which are stuck


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together: this one is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> ProcessGroup:
        """Those of torch's process group; alone where there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            distributed.barrier()

    def agree(self, make: Callable[[], Value]) -> Value:
        """Return what the first process makes, to all of them."""
        if self.size == 1:
            return make()
        held = [make() if self.first else None]
        distributed.broadcast_object_list(held)
        return held[0]  # type: ignore[return-value]

    def gather(self, part: Tensor) -> Tensor:
        """Join the parts (B / size, ...) of all processes, in the order of their ranks, to (B, ...).

        The gradient goes to the own part, times `size`: `parallel` takes the mean of the processes' gradients, and it
        is their sum that belongs to the whole batch.
        """
        if self.size == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(parts, part.detach().contiguous())
        if part.requires_grad:
            own = part.view_as(part)  # its gradient is that of this use alone: f_t also feeds the classifier
            own.register_hook(lambda gradient: gradient * self.size)  # type: ignore[no-untyped-call]
            parts[self.rank] = own
        return torch.cat(parts)

    def gather_all(
        self, outputs: TrainOutputs, labels: Mapping[str, Tensor]
    ) -> tuple[TrainOutputs, Mapping[str, Tensor]]:
        """Outputs and labels of the whole batch."""
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
        """Wrap a module so that its gradients are the mean over all processes; `some_unused`: some weights get none."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=some_unused)

    def gradients_wait(self, module: nn.Module) -> AbstractContextManager[None]:
        """Context whose gradients stay in their process until a step outside of it."""
        wait: AbstractContextManager[None] = module.no_sync() if self.size > 1 else nullcontext()  # type: ignore[operator]
        return wait

    def seed_step(self, seed: int, step: int) -> None:
        """Let each process drop out units of its own, the same after a resume."""
        if self.size > 1:
            torch.manual_seed(int(generator(seed, "dropout", self.rank, step).integers(2**63)))

    def synchronise_batchnorm(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Replace batch normalisation by one over the whole batch; names of weights stay.

        Raises:
            InputError: several processes without GPUs.
        """
        if self.size == 1:
            return model
        if device.type != "cuda":
            raise InputError("sync_batchnorm needs GPUs; set it to false, or train in one process.")
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
