"""Advice after the device's memory ran out."""

import copy

import pytest
import torch

from tfa_perf.config import TrainConfig
from tfa_perf.data.bars import load_bars
from tfa_perf.train.memory import DeviceMemoryError, largest_fitting, memory_advice
from tfa_perf.train.run import train
from tfa_perf.train.trainer import Trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(("limit", "fits"), [(1000, 512), (512, 512), (3, 2), (1, 1), (0, 0)])
def test_halves_are_tried_until_one_fits(limit, fits):
    tried = []

    def attempt(size):
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("no")

    assert largest_fitting(attempt, 512) == fits
    assert tried == [512 >> i for i in range(len(tried))]


def test_an_error_of_another_kind_passes(encoder):
    with pytest.raises(KeyError), memory_advice(encoder(), 8, (6, 5), bf16=False):
        raise KeyError


@pytest.mark.parametrize("bf16", [False, True])
def test_the_message_names_a_size_and_the_model_is_as_before(encoder, bf16):
    model = encoder()
    before = copy.deepcopy(model.state_dict())
    with (
        pytest.raises(DeviceMemoryError, match=r"cpu: 64 windows .*\(all of it\); 32 fit: --set "),
        memory_advice(model, 64, (6, 5), bf16=bf16),
    ):
        raise torch.OutOfMemoryError("all of it. And more that is not repeated")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def little_memory():
    """Leave the process 1 GiB of the device."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@needs_cuda
@pytest.mark.parametrize("graph", [False, True])
def test_the_size_that_is_named_fits(little_memory, tiny_config, graph):
    shape = ["model.d_model=128", "model.nhead=8", "model.num_layers=3", "model.ffn_hidden=512"]
    options = [*shape, "train.batch_size=16384", "train.accumulation=1", f"train.graph={graph}"]
    bars, device = load_bars("synthetic:30000"), torch.device("cuda")
    with pytest.raises(DeviceMemoryError, match=r"16384 windows .*micro_batch=\d+") as caught:
        train(tiny_config(*options), bars, device, max_steps=2)
    size = str(caught.value).rpartition("micro_batch=")[2].split()[0]
    assert 16 <= int(size) <= 8192
    del caught
    train(tiny_config(*options, f"train.micro_batch={size}"), bars, device, max_steps=2)


@needs_cuda
def test_where_nothing_fits_it_says_so(encoder, window_loader):
    model = encoder().cuda()
    trainer = Trainer(model, window_loader(device="cuda"), TrainConfig(), "cuda")
    next(trainer.steps())
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-9)
    try:
        with (
            pytest.raises(DeviceMemoryError, match="not even one fits"),
            memory_advice(model, 8, (6, 5), bf16=False),
        ):
            torch.empty(2**28, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
