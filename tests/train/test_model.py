import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.config import ModelConfig
from tfa_perf.train.model import WindowEncoder


@settings(max_examples=25)
@given(
    batch=st.integers(1, 5),
    window=st.integers(1, 9),
    features=st.integers(1, 6),
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_encoder_forward_and_backward(
    batch, window, features, heads, layers, seed
):
    config = ModelConfig(d_model=8, nhead=heads, num_layers=layers, ffn_hidden=12)
    torch.manual_seed(seed)
    plain = TFATransformer(features, config).double()
    ours = WindowEncoder(features, config).double()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(batch, window, features, dtype=torch.float64)
    y = torch.randint(0, 2, (batch, 1)).double()
    outputs = []
    for model in (plain, ours):
        logits = model(x)
        F.binary_cross_entropy_with_logits(logits, y).backward()
        outputs.append(logits)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(
            ours.get_parameter(name).grad, parameter.grad, rtol=1e-8, atol=1e-10
        )


def test_state_dict_goes_back_to_the_plain_encoder():
    config = ModelConfig(d_model=8, nhead=2, num_layers=2, ffn_hidden=12)
    TFATransformer(4, config).load_state_dict(WindowEncoder(4, config).state_dict())


def test_dropout_acts_in_training_only():
    config = ModelConfig(d_model=8, nhead=2, num_layers=2, ffn_hidden=12, dropout=0.5)
    model = WindowEncoder(4, config)
    x = torch.randn(3, 6, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("window", [1, 2, 48])
def test_one_logit_a_window(window):
    config = ModelConfig(d_model=8, nhead=2, num_layers=1, ffn_hidden=12)
    assert WindowEncoder(4, config)(torch.randn(5, window, 4)).shape == (5, 1)
