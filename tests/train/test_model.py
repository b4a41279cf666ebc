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


def test_one_layer_dropout_zero_matches_the_plain_encoder_in_eval_mode():
    # nn.TransformerEncoder takes another path (its fast path) outside training.
    config = ModelConfig(d_model=16, nhead=4, num_layers=2, ffn_hidden=8, dropout=0.1)
    plain, ours = TFATransformer(5, config).eval(), WindowEncoder(5, config).eval()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(7, 9, 5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-6)


def positioned(kind, **options):
    config = ModelConfig(d_model=8, nhead=2, num_layers=2, ffn_hidden=12, positions=kind)
    torch.manual_seed(1)
    return WindowEncoder(3, config, **options).double()


@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_positions_tell_the_order_of_rows(kind):
    # Without positions the rows before the last may be swapped freely.
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    swapped = x[:, [1, 0, 3, 2, 4, 5]]
    options = {"window": 6} if kind == "learned" else {}
    torch.testing.assert_close(positioned("none")(x), positioned("none")(swapped))
    difference = positioned(kind, **options)(x) - positioned(kind, **options)(swapped)
    assert difference.abs().min() > 1e-6


def test_rotary_positions_equal_complex_multiplication_in_every_layer():
    model = positioned("rotary")
    heads, width = 2, 4

    def turned(t):
        """[b, T, h, width]: pair (i, i + width / 2) of row p turned by p * 10000^(-2i / width)."""
        z = torch.complex(t[..., : width // 2], t[..., width // 2 :])
        row = torch.arange(t.shape[1]).double()[:, None, None]
        z = z * torch.exp(1j * row * 10_000.0 ** (-2 * torch.arange(width // 2).double() / width))
        return torch.cat((z.real, z.imag), dim=-1)

    x = torch.randn(3, 7, 3, dtype=torch.float64)
    h = model.proj(x)
    for layer in model.encoder.layers:
        qkv = F.linear(layer.norm1(h), layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
        q, k, v = (t.unflatten(-1, (heads, width)) for t in qkv.chunk(3, dim=-1))
        scores = torch.einsum("bqhd,bkhd->bhqk", turned(q), turned(k)) / width**0.5
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        h = h + layer.self_attn.out_proj(mixed)
        h = h + layer.linear2(F.gelu(layer.linear1(layer.norm2(h))))
    expected = model.head(model.norm(h[:, -1]))
    torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=1e-8)


def test_rotary_adds_nothing_to_the_state_dict():
    assert positioned("rotary").state_dict().keys() == positioned("none").state_dict().keys()


def test_learned_positions_are_counted_from_the_last_row():
    model = positioned("learned", window=6)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    before = model(x)
    with torch.no_grad():
        model.position[:2] += 1
    torch.testing.assert_close(model(x), before)
    with torch.no_grad():
        model.position[2, 0] += 1
    assert not torch.allclose(model(x), before)


def test_learned_positions_need_the_window_and_refuse_a_longer_one():
    with pytest.raises(ValueError, match="window"):
        positioned("learned")
    with pytest.raises(ValueError, match=r"7 rows.*learned for 6"):
        positioned("learned", window=6)(torch.randn(1, 7, 3, dtype=torch.float64))
