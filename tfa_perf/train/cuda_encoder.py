"""The whole model on a CUDA device, as Triton kernels forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from tfa_perf.data.device_windows import spaced_columns
from tfa_perf.train.attention import have_kernels, in_short_windows

if TYPE_CHECKING:
    from tfa_perf.train.model import WindowEncoder

__all__ = ["in_kernels", "logits"]

# Columns of a row that a program's registers hold.
_MOST_COLUMNS = 128
_MULTIPLE = 16
_HALVES = (torch.bfloat16, torch.float16)
# Timed on nothing else; and most others have less shared memory than a layer's weights take.
_CAPABILITY = 9


def in_kernels(model: WindowEncoder, x: Tensor) -> bool:
    """Whether `logits` takes windows x [b, T, F] on a CUDA device under autocast.

    They are float32, or in autocast's dtype already. Up to 128 features, columns and rows a window,
    columns of the model and of the feed-forward multiples of 16, ``F.gelu``, no positions and no
    dropout. The device is of compute capability 9, an H100 or H200.
    """
    if not x.is_cuda or torch.version.hip is not None:
        return False
    dtype = torch.get_autocast_dtype("cuda")
    return (
        torch.is_autocast_enabled("cuda")
        and dtype in _HALVES
        and x.dtype in (torch.float32, dtype)
        and _fits(model, x)
        and torch.cuda.get_device_properties(x.device).major == _CAPABILITY
        and all(
            p.dtype == torch.float32 and p.device == x.device and p.is_contiguous()
            for p in model.parameters()
        )
        and have_kernels(x.device)
    )


def _fits(model: WindowEncoder, x: Tensor) -> bool:
    """Whether the model is what the kernels compute, and x what it takes."""
    d, F = model.proj.weight.shape
    layers = list(model.encoder.layers)
    norms = [model.norm, *(norm for layer in layers for norm in (layer.norm1, layer.norm2))]
    return (
        x.dim() == 3
        and x.shape[-1] == F
        and x.numel() > 0
        and x.stride(-1) == 1
        and not x.requires_grad
        and model.positions == "none"
        and max(F, d) <= _MOST_COLUMNS
        and in_short_windows(x.shape[1], d // layers[0].self_attn.num_heads)
        and all(n % _MULTIPLE == 0 for n in layers[0].linear1.weight.shape)
        and all(map(_plain, layers))
        and all(type(norm) is nn.LayerNorm and norm.eps == norms[0].eps for norm in norms)
        and type(model.head) is nn.Linear
        and model.head.out_features == 1
    )


def _plain(layer: nn.TransformerEncoderLayer) -> bool:
    dropouts: tuple[Any, ...] = (layer.dropout, layer.dropout1, layer.dropout2)
    dropped = layer.self_attn.dropout or any(module.p for module in dropouts)
    return layer.activation is gelu and not (layer.training and dropped)


def logits(model: WindowEncoder, x: Tensor, dtype: torch.dtype) -> Tensor:
    """What ``model`` gives for windows x [b, T, F]: [b, 1], float32.

    What products are made of, and what is written between them, is rounded to ``dtype``; gradients
    of parameters are summed in float32. Of the last layer, only what the last rows need is
    computed.
    """
    parameters = [model.proj.weight, model.proj.bias]
    for layer in model.encoder.layers:
        parameters += _parameters(layer)
    parameters += [model.norm.weight, model.norm.bias, model.head.weight, model.head.bias]
    heads = model.encoder.layers[0].self_attn.num_heads
    T, F = x.shape[1:]
    wide = spaced_columns(F)
    spaced = x.dtype == dtype and x.stride() == (T * wide, wide, 1)
    return _encode(x.detach(), parameters, heads, model.norm.eps, dtype, spaced)[0]


def _parameters(layer: nn.TransformerEncoderLayer) -> list[Tensor]:
    own = layer.self_attn
    return [
        own.in_proj_weight, own.in_proj_bias, layer.norm1.weight, layer.norm1.bias,
        own.out_proj.weight, own.out_proj.bias,
        layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias,
        layer.norm2.weight, layer.norm2.bias,
    ]  # fmt: skip


@torch.library.custom_op("tfa_perf::encode", mutates_args=())
def _encode(
    x: Tensor, parameters: list[Tensor], heads: int, eps: float, dtype: torch.dtype, spaced: bool
) -> list[Tensor]:
    """The logits, and what their gradient needs beside x where that is ``spaced``."""
    from tfa_perf.train import _encoder_triton as kernels

    with torch.cuda.device(x.device):
        out, kept = kernels.forward(x, parameters, heads, eps, dtype, spaced)
    return [out, *kept]


@_encode.register_fake
def _(
    x: Tensor, parameters: list[Tensor], heads: int, eps: float, dtype: torch.dtype, spaced: bool
) -> list[Tensor]:
    windows, T, _ = x.shape
    (d, features), rows = parameters[0].shape, windows * T
    weights = sum(p.numel() for p in parameters[1:-4] if p.dim() == 2)
    own = (0,) if spaced else (rows, spaced_columns(features))
    shapes: list[tuple[int, ...]] = [(weights,), own]
    for _ in range((len(parameters) - 6) // 12 - 1):
        shapes += [(rows, d), (0,), (windows, T, 3 * d), (windows, T, d), (rows, d)]
    shapes += [(rows, d), (windows, d), (windows, T, 2 * d), (windows, d), (windows, d)]
    shapes.append((windows, d))
    logits = parameters[0].new_empty((windows, 1))
    return [logits, *(x.new_empty(shape, dtype=dtype) for shape in shapes)]


@torch.library.custom_op("tfa_perf::encode_gradient", mutates_args=())
def _encode_gradient(
    gradient: Tensor, parameters: list[Tensor], kept: list[Tensor], heads: int, eps: float
) -> Tensor:
    from tfa_perf.train import _encoder_triton as kernels

    with torch.cuda.device(gradient.device):
        return kernels.backward(gradient.contiguous(), parameters, kept, heads, eps)


@_encode_gradient.register_fake
def _(
    gradient: Tensor, parameters: list[Tensor], kept: list[Tensor], heads: int, eps: float
) -> Tensor:
    return parameters[0].new_empty(sum(p.numel() for p in parameters))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, parameters, ctx.heads, ctx.eps, _, spaced = inputs
    _, halves, own, *rest = output
    ctx.save_for_backward(*parameters, halves, x if spaced else own, *rest)
    ctx.count = len(parameters)
    # What is kept has no gradient: none is to be filled with zeros.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    parameters, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
    flat = _encode_gradient(gradients[0], list(parameters), list(kept), ctx.heads, ctx.eps)
    parts = flat.split([p.numel() for p in parameters])
    own = [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]
    return None, own, None, None, None, None


_encode.register_autograd(_backward, setup_context=_keep)
