import pytest
import torch

from tfa_perf.train.devices import DeviceError, pick_device


@pytest.mark.parametrize("name", ["mps", "meta", "cpu:3", "abacus", "", "cuda:99"])
def test_a_device_that_cannot_train_is_refused(name):
    with pytest.raises(DeviceError, match=rf"device: '{name}'"):
        pick_device(name)


def test_the_cpu_has_two_names():
    assert [pick_device(name).type for name in ("cpu", "cpu:0")] == ["cpu", "cpu"]
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
