"""The encoder of the legacy trainer, computed without the work whose result is thrown away."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfa_perf.config import ModelConfig
from tfa_perf.train import cuda_encoder, encoder_layer
from tfa_perf.train.attention import (
    attends_on_cpu,
    attention,
    join_heads,
    last_attention,
    shared_attention,
    split_heads,
)
from tfa_perf.train.linear import linear
from tfa_perf.train.overlap import shared_rows, windows_of
from tfa_perf.train.self_attention import self_attention

__all__ = ["WindowEncoder"]

_ROTARY_BASE = 10_000.0


class WindowEncoder(nn.Module):
    """Pre-norm transformer encoder with a head on the last position: [b, T, F] -> logits [b, 1].

    The parameters live in a plain ``nn.TransformerEncoder``, so the state dict is the one of
    the legacy model and loads either way. Three things are done differently, with equal results
    within float rounding: attention is one fused projection and one
    ``scaled_dot_product_attention``; the last layer computes its query, attention output and
    feed-forward for the last position only, the only one that the head reads; and on a CPU that
    layer projects no keys and values, see `_mix_last`, linear layers are those of `linear`, and
    windows that overlap in memory have their rows projected once, see `shared_rows`. Under
    autocast on an H100 or H200 all of it is a few kernels, see `cuda_encoder`, and the logits are
    float32; no submodule is called, so hooks on them are not.

    The legacy model knows no positions. ``config.positions`` adds them: "rotary" turns queries
    and keys by an angle per row of distance (Su et al. 2021, RoFormer, eq. 34) and adds no
    parameter; "learned" adds one vector a row, the last row of the window first in line, so
    that windows up to ``window`` rows can be fed.

    Parameters
    ----------
    features : columns of the feature table, F.
    config : shape of the encoder.
    window : the longest window, needed by learned positions alone.

    Raises
    ------
    ValueError : learned positions without ``window``, or a longer window fed to them.
    """

    def __init__(self, features: int, config: ModelConfig, *, window: int | None = None) -> None:
        super().__init__()
        self.proj = nn.Linear(features, config.d_model)
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.nhead,
            config.ffn_hidden,
            dropout=config.dropout,
            activation=F.gelu,
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, 1)
        self.positions = config.positions
        if config.positions == "learned":
            if window is None:
                raise ValueError("window: learned positions need the window's rows, got None")
            self.position = nn.Parameter(torch.empty(window, config.d_model))
            nn.init.normal_(self.position, std=0.02)
        if config.positions == "rotary":
            pairs = torch.arange(0, config.d_model // config.nhead, 2)
            frequencies = _ROTARY_BASE ** -(pairs / (config.d_model // config.nhead))
            self.register_buffer("_frequencies", frequencies, persistent=False)

    @property
    def rounds_input(self) -> bool:
        """Whether x only goes into a product, and so may come in autocast's dtype.

        Of a class that inherits, as long as ``forward`` is this one.
        """
        return type(self).forward is WindowEncoder.forward

    def forward(self, x: Tensor) -> Tensor:
        if cuda_encoder.in_kernels(self, x):
            return cuda_encoder.logits(self, x, torch.get_autocast_dtype("cuda"))
        *front, last = self.encoder.layers
        rotation = None
        rows = shared_rows(x) if front and self.positions == "none" else None
        if rows is not None:
            h = _first_layer(front.pop(0), self._projected(rows), x.shape[1])
        else:
            h = self._projected(x)
        if self.positions == "learned":
            h = h + self._last_positions(x.shape[1])
        elif self.positions == "rotary":
            rotation = self._rotation(x.shape[1])
        for layer in front:
            mixed, h = _self_attention(layer, h, rotation)
            h = _after_attention(layer, h, mixed)
        if rotation is None and x.device.type == "cpu":
            mixed, newest = _mix_last(last, h)
        else:
            mixed, newest = _mix_last_of_keys(last, last.norm1(h), rotation), h[:, -1:]
        h = _after_attention(last, newest, mixed)
        return self.head(self.norm(h[:, 0]))

    def _projected(self, x: Tensor) -> Tensor:
        return linear(x, self.proj.weight, self.proj.bias)

    def _last_positions(self, rows: int) -> Tensor:
        if rows > len(self.position):
            raise ValueError(
                f"x: a window of {rows} rows, but positions were learned for {len(self.position)}"
            )
        return self.position[len(self.position) - rows :]

    def _rotation(self, rows: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each row's angles, each [rows, head_dim / 2]."""
        frequencies = self.get_buffer("_frequencies")
        angles = torch.outer(torch.arange(rows, device=frequencies.device), frequencies)
        return angles.cos(), angles.sin()


def _first_layer(layer: nn.TransformerEncoderLayer, rows: Tensor, T: int) -> Tensor:
    """The layer over all windows of T of the rows [R, d]: [R - T + 1, T, d].

    Up to attention, what it computes of a row is the same in every window that has it.
    """
    qkv, rows = _before_attention(layer, rows)
    own, dropout = layer.self_attn, _attention_dropout(layer)
    mixed = shared_attention(qkv, T, own.num_heads, dropout=dropout)
    return _after_attention(layer, windows_of(rows, T), mixed)


def _self_attention(
    layer: nn.TransformerEncoderLayer, h: Tensor, rotation: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """What attention makes of h [b, T, d], before its own projection; and h, to be added to."""
    if (
        rotation is None
        and encoder_layer.in_kernels(layer, h)
        and attends_on_cpu(h, h.shape[1], _attention_dropout(layer))
    ):
        return self_attention(layer, h)
    qkv, h = _before_attention(layer, h)
    return _mix(layer, qkv, rotation), h


def _before_attention(layer: nn.TransformerEncoderLayer, h: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values of h [..., d]: [..., 3 d]; and h again, to be added to."""
    if encoder_layer.in_kernels(layer, h):
        return encoder_layer.before_attention(layer, h)
    own = layer.self_attn
    return linear(layer.norm1(h), own.in_proj_weight, own.in_proj_bias), h


def _mix(
    layer: nn.TransformerEncoderLayer, qkv: Tensor, rotation: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Attention inside windows [b, T, 3 d]: [b, T, d], before the output projection."""
    heads, dropout = layer.self_attn.num_heads, _attention_dropout(layer)
    if rotation is None:
        return attention(qkv, heads, dropout=dropout)
    q, k, v = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
    q, k = (_rotate(part, rotation) for part in (q, k))
    return join_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))


def _mix_last_of_keys(
    layer: nn.TransformerEncoderLayer, source: Tensor, rotation: tuple[Tensor, Tensor] | None
) -> Tensor:
    """What `_mix` gives for the last position of the normed ``source`` [b, T, d]: [b, 1, d]."""
    own = layer.self_attn
    d, heads, dropout = own.embed_dim, own.num_heads, _attention_dropout(layer)
    weight, bias = own.in_proj_weight, own.in_proj_bias
    q = linear(source[:, -1:], weight[:d], bias[:d])
    kv = linear(source, weight[d:], bias[d:])
    if rotation is None:
        return last_attention(q[:, 0], kv, heads, dropout=dropout).unsqueeze(1)
    q, k, v = (split_heads(part, heads) for part in (q, *kv.chunk(2, dim=-1)))
    q, k = (_rotate(part, rotation) for part in (q, k))
    return join_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout))


def _attention_dropout(layer: nn.TransformerEncoderLayer) -> float:
    return layer.self_attn.dropout if layer.training else 0.0


def _mix_last(layer: nn.TransformerEncoderLayer, h: Tensor) -> tuple[Tensor, Tensor]:
    """What `_mix_last_of_keys` gives without rotation for h normed, and h's last rows: [b, 1, d].

    With one query a window, products are put in another order: q . (W_k x_t) is
    (q W_k) . x_t, and the sum of p_t (W_v x_t) is W_v (sum of p_t x_t), so keys and values of the
    T positions need not exist. The bias of the keys adds the same to all scores of a head, which
    softmax takes away; the weights of a head add to 1, so that of the values is added once.
    """
    attention, dropout = layer.self_attn, _attention_dropout(layer)
    d, heads = attention.embed_dim, attention.num_heads
    width = d // heads
    query_weight, key_weight, value_weight = attention.in_proj_weight.split(d)
    query_bias, _, value_bias = attention.in_proj_bias.split(d)
    kernels = encoder_layer.in_kernels(layer, h) and not dropout
    h, newest = encoder_layer.with_last_row(h) if kernels else (h, h[:, -1])
    # Heads first: a batched product over heads, rows [b] of each.
    q = linear(layer.norm1(newest), query_weight, query_bias) * width**-0.5
    q = q.unflatten(-1, (heads, width)).transpose(0, 1)
    sought = torch.bmm(q, key_weight.unflatten(0, (heads, width))).transpose(0, 1)
    if kernels:
        rows = encoder_layer.last_attention(layer, h, sought)
    else:
        source = layer.norm1(h)
        weights = torch.bmm(sought, source.transpose(1, 2)).softmax(dim=-1)
        if dropout:
            weights = F.dropout(weights, dropout)
            # Dropped weights no longer add to 1: the values' bias takes part in the sum.
            value_bias = value_bias.unflatten(0, (heads, width)) * weights.sum(-1, keepdim=True)
            value_bias = value_bias.flatten(1)
        rows = torch.bmm(weights, source)
    values = value_weight.unflatten(0, (heads, width)).transpose(1, 2)
    mixed = torch.bmm(rows.transpose(0, 1), values).transpose(0, 1).flatten(1) + value_bias
    return mixed.unsqueeze(1), newest.unsqueeze(1)


def _rotate(t: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of ``t`` [b, h, T, head_dim] by each row's angles.

    Fewer rows than there are angles are the last ones.
    """
    cos, sin = (part[-t.shape[2] :].to(t.dtype) for part in rotation)
    left, right = t.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)


def _after_attention(layer: nn.TransformerEncoderLayer, h: Tensor, mixed: Tensor) -> Tensor:
    """The layer's result for h and what attention made of it."""
    if encoder_layer.in_kernels(layer, h):
        return encoder_layer.after_attention(layer, h, mixed)
    h = _add(h, mixed, layer.self_attn.out_proj, layer.dropout1)
    first = layer.linear1
    hidden = layer.activation(linear(layer.norm2(h), first.weight, first.bias))
    return _add(h, layer.dropout(hidden), layer.linear2, layer.dropout2)


def _add(h: Tensor, x: Tensor, module: nn.Linear, dropout: nn.Dropout) -> Tensor:
    """``h + dropout(module(x))``."""
    if dropout.training and dropout.p:
        return h + dropout(linear(x, module.weight, module.bias))
    return linear(x, module.weight, module.bias, residual=h)
