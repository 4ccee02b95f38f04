"""Running means of a training go on after a stop and count what is there; memory is told in GiB."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vreid.training.meter import Meter, memory_at_most


def test_a_meter_continues_after_an_interruption() -> None:
    first, whole = Meter(), Meter()
    for value in (1.0, 2.0):
        first.add({"loss": torch.tensor(value)}, 4)
        whole.add({"loss": torch.tensor(value)}, 4)
    second = Meter(first.sums())
    for each in (second, whole):
        each.add({"loss": torch.tensor(6.0)}, 4)
    assert second.means() == whole.means() == {"loss": 3.0}
    assert second.images == 12


def test_meter_averages_a_term_over_the_batches_that_have_it() -> None:
    meter = Meter()
    meter.add({"often": torch.tensor(1.0)}, 4)
    meter.add({"often": torch.tensor(2.0), "seldom": torch.tensor(5.0)}, 4)
    meter = Meter(meter.sums())
    meter.add({"often": torch.tensor(3.0)}, 4)
    assert meter.means() == {"often": 2.0, "seldom": 5.0}


@pytest.mark.parametrize(("system", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_memory_in_the_units_of_each_system(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    monkeypatch.setattr("vreid.training.meter.sys.platform", system)
    used = SimpleNamespace(ru_maxrss=3 * 2**29 // unit)
    monkeypatch.setattr("vreid.training.meter.resource.getrusage", lambda who: used)
    assert memory_at_most(torch.device("cpu")) == "1.5 GiB"
