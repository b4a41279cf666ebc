"""The encoder of the legacy trainer, computed without the work whose result is thrown away."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfa_perf.config import ModelConfig

__all__ = ["WindowEncoder"]

_ROTARY_BASE = 10_000.0


class WindowEncoder(nn.Module):
    """Pre-norm transformer encoder with a head on the last position: [b, T, F] -> logits [b, 1].

    The parameters live in a plain ``nn.TransformerEncoder``, so the state dict is the one of
    the legacy model and loads either way. Two things are done differently, with equal results
    within float rounding: attention is one fused projection and one
    ``scaled_dot_product_attention``, and the last layer computes its query, attention output
    and feed-forward for the last position only, the only one that the head reads.

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
        self._positions = config.positions
        if config.positions == "learned":
            if window is None:
                raise ValueError("window: learned positions need the window's rows, got None")
            self.position = nn.Parameter(torch.empty(window, config.d_model))
            nn.init.normal_(self.position, std=0.02)
        if config.positions == "rotary":
            pairs = torch.arange(0, config.d_model // config.nhead, 2)
            frequencies = _ROTARY_BASE ** -(pairs / (config.d_model // config.nhead))
            self.register_buffer("_frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.proj(x)
        rotation = None
        if self._positions == "learned":
            h = h + self._last_positions(x.shape[1])
        elif self._positions == "rotary":
            rotation = self._rotation(x.shape[1])
        *front, last = self.encoder.layers
        for layer in front:
            normed = layer.norm1(h)
            h = _feed_forward(layer, h + _attend(layer, normed, normed, rotation))
        normed = last.norm1(h)
        h = _feed_forward(last, h[:, -1:] + _attend(last, normed[:, -1:], normed, rotation))
        return self.head(self.norm(h[:, 0]))

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


def _attend(
    layer: nn.TransformerEncoderLayer,
    query: Tensor,
    source: Tensor,
    rotation: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Self-attention of the last positions ``query`` [b, Q, d] over ``source`` [b, T, d]."""
    attention = layer.self_attn
    d, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def split_heads(t: Tensor) -> Tensor:
        return t.unflatten(-1, (heads, d // heads)).transpose(1, 2)

    if query is source:
        q, k, v = map(split_heads, F.linear(source, weight, bias).chunk(3, dim=-1))
    else:
        q = split_heads(F.linear(query, weight[:d], bias[:d]))
        k, v = map(split_heads, F.linear(source, weight[d:], bias[d:]).chunk(2, dim=-1))
    if rotation is not None:
        cos, sin = (part.to(q.dtype) for part in rotation)
        q = _rotate(q, cos[-q.shape[2] :], sin[-q.shape[2] :])
        k = _rotate(k, cos, sin)
    dropout = attention.dropout if layer.training else 0.0
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return layer.dropout1(attention.out_proj(mixed.transpose(1, 2).flatten(2)))


def _rotate(t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of ``t`` [b, h, T, head_dim] by each row's angles."""
    left, right = t.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)


def _feed_forward(layer: nn.TransformerEncoderLayer, h: Tensor) -> Tensor:
    hidden = layer.dropout(layer.activation(layer.linear1(layer.norm2(h))))
    return h + layer.dropout2(layer.linear2(hidden))
