"""A fitted model with its scaler inside, as one file for torch.export or ONNX runtimes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tfa_perf.config import Config
from tfa_perf.data.scaler import Scaler
from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.model_size import parameter_bytes

__all__ = ["METADATA", "ExportError", "ScaledModel", "export_model", "load_model"]

METADATA = "tfa_perf.json"
"""Under this name both kinds of file hold feature names, window and horizon, as JSON."""


class ExportError(ValueError):
    """A file that cannot be written in the format asked for."""


class ScaledModel(nn.Module):
    """``model`` for features as they are built: float32 [b, T, F], unscaled -> logits [b, 1].

    The scaling is that of training, to the last bit: float64, rounded to float32 once.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, scaler: Scaler) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.from_numpy(scaler.mean))
        self.register_buffer("scale", torch.from_numpy(scaler.scale))

    def forward(self, features: Tensor) -> Tensor:
        return self.model(((features.double() - self.mean) / self.scale).float())


def load_model(path: Path) -> tuple[ScaledModel, dict[str, Any]]:
    """The model that a training run wrote to ``path``, on the CPU and in evaluation mode.

    Beside it the features' names, the window and the horizon, by the names "features", "window"
    and "horizon". Raises CheckpointError for a file that holds no such model.
    """
    content = read_checkpoint(path)
    try:
        config = Config.model_validate(content["config"])
        names = list(content["features"])
        # A few bytes of config may describe a model of any size.
        need = parameter_bytes(config.model, features=len(names), window=config.data.window)
        held = sum(tensor.nbytes for tensor in content["model"].values())
        if need > held:
            raise ValueError(f"that of its config has {need:,} bytes, its weights {held:,}")
        model = WindowEncoder(len(names), config.model, window=config.data.window)
        model.load_state_dict(content["model"])
        scaled = ScaledModel(model, Scaler.from_dict(content["scaler"]))
    except KeyError as error:
        raise CheckpointError(
            f"{path}: holds no {error.args[0]!r}; give the model of a run (--out, or best.pt), "
            "not its last.pt"
        ) from None
    except (ValidationError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: its model cannot be rebuilt ({reason})") from None
    about = {"features": names, "window": config.data.window, "horizon": config.data.horizon}
    return scaled.eval(), about


def export_model(path: Path, out: Path) -> None:
    """Write the model of ``path`` to ``out``: ``.pt2`` for torch.export.load, or ``.onnx``.

    The input is "features", float32 [batch, window, F], unscaled, for any batch; the output
    "logits", float32 [batch, 1]. An existing file is replaced whole.

    Raises
    ------
    CheckpointError : ``path`` holds no fitted model.
    ExportError : another suffix, or onnx is not installed.
    """
    if out.suffix not in (".pt2", ".onnx"):
        raise ExportError(f"{out}: unknown format {out.suffix!r}; use .pt2 or .onnx")
    model, about = load_model(path)
    # Two windows: torch.export takes a size of 1 for a constant.
    example = torch.zeros(2, about["window"], len(about["features"]))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        if out.suffix == ".pt2":
            torch.export.save(program, temporary, extra_files={METADATA: json.dumps(about)})
        else:
            _save_onnx(program, temporary, json.dumps(about))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _save_onnx(program: torch.export.ExportedProgram, path: Path, about: str) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ExportError(
            "ONNX: the packages onnx and onnxscript are needed; pip install 'tfa-perf[onnx]', or "
            "write a .pt2"
        ) from None
    converted = torch.onnx.export(
        program,
        input_names=["features"],
        output_names=["logits"],
        dynamo=True,
        verbose=False,
    )
    assert converted is not None
    converted.model.metadata_props[METADATA] = about
    converted.save(path, external_data=False)
