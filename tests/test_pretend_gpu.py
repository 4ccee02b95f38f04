"""The pretended GPU refuses what it should, and computes what the CPU does."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from support.pretend_gpu import Copy, DeviceTensor, PretendGpu, WaitsForDevice
from vreid.data.devices import HostCopy, to_device
from vreid.training.precision import autocast

pytestmark = pytest.mark.usefixtures("one_thread")


def on(gpu: PretendGpu, values: object) -> torch.Tensor:
    return torch.tensor(values, device=gpu.name)


def test_a_tensor_says_where_it_is_and_what_is_made_of_it_is_there_too(pretended: PretendGpu) -> None:
    values = on(pretended, [[1.0, 2.0], [3.0, 4.0]])
    assert str(values.device) == "cuda:0" and values.is_cuda and not values.is_meta
    for made in (values.T, values @ values, values.new_zeros(3), torch.eye(2, device=values.device), values[0] > 1):
        assert made.device == values.device
    assert (values * 2).cpu().tolist() == [[2.0, 4.0], [6.0, 8.0]]
    values[:, 0] += 10  # through a view
    assert values.cpu().tolist() == [[11.0, 2.0], [13.0, 4.0]]
    assert torch.ones(2).to(values).device == values.device
    with torch.device("meta"):
        assert torch.ones(2).is_meta


@pytest.mark.parametrize(
    "mix",
    [
        lambda device, host: device + host,
        lambda device, host: torch.cat([device, host]),
        lambda device, host: device[host.long()],
        lambda device, host: host @ device,
        lambda device, host: nn.functional.linear(host[None], device[None]),
        lambda device, host: torch.where(host > 0, device, 0.0),
    ],
)
def test_host_and_device_do_not_mix(pretended: PretendGpu, mix) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        mix(on(pretended, [0.0, 1.0]), torch.tensor([0.0, 1.0]))


def test_numpy_cannot_read_a_tensor_of_the_device(pretended: PretendGpu) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        on(pretended, [1.0]).numpy()
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(on(pretended, [1.0]))


@pytest.mark.parametrize(
    "wait",
    [
        lambda values: values.sum().item(),
        lambda values: bool(values.any()),
        lambda values: values.cpu(),
        lambda values: values[values > 1],
        lambda values: values.nonzero(),
        lambda values: values.unique(),
        lambda values: torch.equal(values, values),
        lambda values: values + torch.tensor([1.0, 1.0], device=values.device),
        lambda values: values + torch.ones(2).to(values.device, non_blocking=True),  # not pinned
        lambda values: values + torch.ones(2).pin_memory().to(values.device),  # blocking
        lambda values: torch.empty(2).copy_(values, non_blocking=True),
    ],
)
def test_what_waits_for_the_device(pretended: PretendGpu, wait) -> None:
    values = on(pretended, [1.0, 2.0])
    before = len(pretended.waits)
    wait(values)
    assert len(pretended.waits) == before + 1
    with pretended.asynchronous(), pytest.raises(WaitsForDevice):
        wait(values)


def test_what_does_not_wait(pretended: PretendGpu) -> None:
    values = on(pretended, [1.0, 2.0])
    with pretended.asynchronous():
        values[values > 1] = 0.0
        values = values.masked_fill(values > 1, 0).sort().values[torch.arange(2, device=values.device)]
        moved = torch.ones(2).pin_memory().to(values.device, non_blocking=True)
        copy = (values + moved).to("cpu", non_blocking=True)
    assert pretended.copies[-2:] == [Copy(True, 8, False), Copy(False, 8, False)]
    torch.cuda.synchronize()
    assert copy.tolist() == [1.0, 2.0]


def test_a_copy_to_the_host_is_garbage_until_its_event(pretended: PretendGpu) -> None:
    values = on(pretended, [1.0, 2.0])
    with pretended.asynchronous():
        first = HostCopy(values)
        second = values.to("cpu", non_blocking=True)
        assert second.isnan().all()
        assert first.get().tolist() == [1.0, 2.0]
        assert second.isnan().all()  # the event was before it


def test_a_copy_to_the_device_waits_for_nothing(pretended: PretendGpu) -> None:
    with pretended.asynchronous():
        moved = to_device(torch.arange(3), "cuda:0")
    assert isinstance(moved, DeviceTensor) and moved.cpu().tolist() == [0, 1, 2]
    assert to_device(torch.arange(3), "cpu").device.type == "cpu"
    assert to_device(moved, "cuda:0").device.type == "cuda"


def test_gradients_are_those_of_the_cpu_and_autocast_is_a_gpus(pretended: PretendGpu) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    images, other = torch.randn(5, 3, 4, 4), copy.deepcopy(network)
    other.to("cuda:0")
    network(images).square().sum().backward()
    other(images.to("cuda:0")).square().sum().backward()
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert theirs.device.type == "cuda" and torch.equal(mine.grad, theirs.grad.cpu())
    with autocast("bfloat16", torch.device("cuda:0")):
        made = other(images.to("cuda:0"))
        assert made.dtype == torch.bfloat16 and made.softmax(1).dtype == torch.float32  # the rule of GPUs


def test_memory_is_bounded(pretended: PretendGpu) -> None:
    pretended.memory = 100
    one = torch.ones(10, device="cuda:0")
    view = one[:5]
    assert pretended.used == 40 and len(view) == 5
    with pytest.raises(torch.OutOfMemoryError):
        torch.ones(16, device="cuda:0")
    del one
    with pytest.raises(torch.OutOfMemoryError):  # the view keeps it
        torch.ones(16, device="cuda:0")
    del view
    torch.ones(25, device="cuda:0")
    assert pretended.used == 0 and pretended.peak == 100


def test_nothing_is_left_behind() -> None:
    available = torch.cuda.is_available
    with PretendGpu():
        assert torch.cuda.is_available is not available
    assert torch.cuda.is_available is available
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    thread = threading.Thread(target=lambda: layer.double())
    thread.start()
    thread.join()
    assert layer.weight.dtype == torch.float64
