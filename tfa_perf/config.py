"""One frozen, validated config, read from YAML.

A config has three sections: ``data`` (what the model sees), ``model`` (its shape) and
``train`` (how it is fitted). Every problem is a ConfigError of one line that names the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tfa_kernels.documents import YAML_BYTES, DocumentError, load_yaml, read_text

__all__ = [
    "Config",
    "ConfigError",
    "DataConfig",
    "ModelConfig",
    "TrainConfig",
    "bundled_configs",
    "load_config",
]


class ConfigError(ValueError):
    """A config that cannot be used: one line that names the key, the value and the fix."""


def _number_in_yaml(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 (no point) as a string; people write it all the time.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _off_in_yaml(value: Any) -> Any:
    # YAML 1.1 reads a bare off as false.
    return "off" if value is False else value


Real = Annotated[float, BeforeValidator(_number_in_yaml), Field(allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataConfig(_Section):
    """What the model sees."""

    bars: str = "sample"
    """"sample", "synthetic:ROWS[:SEED]", or a CSV or Parquet file (relative to the config file)."""
    features: str
    """Feature spec, JSON or YAML (relative to the config file)."""
    window: Positive
    """Bars in one window: the report's T."""
    horizon: Positive = 1
    """Bars ahead whose log return the label is the sign of."""
    min_volume: Annotated[Real, Field(ge=0)] | None = None
    """Bars with less volume are not trained on."""
    min_move: Annotated[Real, Field(ge=0)] | None = None
    """Bars whose absolute forward log return is smaller are not trained on."""
    train_fraction: Annotated[Real, Field(gt=0, lt=1)] = 0.8
    """Share of the time span used for training; the rest validates."""


class ModelConfig(_Section):
    """Shape of the pre-norm transformer encoder."""

    d_model: Positive
    nhead: Positive
    num_layers: Positive
    ffn_hidden: Positive
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    positions: Literal["none", "learned", "rotary"] = "none"
    """What tells the rows of a window apart; the legacy model knows "none"."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.d_model % self.nhead:
            near = [n for n in range(1, min(self.d_model, 64) + 1) if self.d_model % n == 0]
            raise ValueError(
                f"nhead: {self.nhead} does not divide d_model {self.d_model}; "
                f"use one of {', '.join(map(str, near))}"
            )
        if self.positions == "rotary" and self.d_model // self.nhead % 2:
            raise ValueError(
                f"positions: rotary turns pairs, but a head has {self.d_model // self.nhead} "
                "columns; use an even d_model / nhead, or learned"
            )
        return self


class TrainConfig(_Section):
    """How the model is fitted."""

    batch_size: Positive = 1024
    accumulation: Positive = 1
    """Batches per optimizer step."""
    micro_batch: Positive | None = None
    """Windows per forward/backward inside a batch; default 512 on a CPU (activations stay in
    cache) and the whole batch on a GPU. It does not change the gradient."""
    epochs: Positive = 25
    lr: Annotated[Real, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate after warm-up: "cosine" falls to 0 at the end of the last epoch."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps over which the learning rate rises to ``lr``."""
    weight_decay: Annotated[Real, Field(ge=0)] = 0.01
    pos_weight: Annotated[Real, Field(gt=0)] | Literal["balanced"] | None = None
    """Weight of windows labelled 1 in the training loss; "balanced" is the number of the others
    over theirs. The validation loss stays unweighted."""
    clip_norm: Annotated[Real, Field(gt=0)] | None = 1.0
    amp: Annotated[Literal["auto", "off", "bf16", "probe"], BeforeValidator(_off_in_yaml)] = "auto"
    """Autocast: "auto" is bfloat16 on a CUDA device and off elsewhere; "probe" is bfloat16 on a
    CPU too where a short measurement finds it faster, so two CPUs may differ in the results."""
    threads: Positive | None = None
    """CPU threads of torch and of the window gather during a run; default as they are set."""
    compile: bool = False
    """Run forward and backward through torch.compile."""
    graph: bool | None = None
    """Replay one CUDA graph a step; default on a CUDA device."""
    graph_steps: Positive = 1
    """Optimizer steps in one CUDA graph: the host works once for them all, and a run is logged,
    stopped and checkpointed only between graphs."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    shuffle: bool | Literal["block"] = True
    """A new order every epoch; "block" for a store larger than main memory."""
    patience: Positive | None = None
    """Epochs without a lower validation loss after which training stops; default never."""
    checkpoint_every: Positive | None = None
    """Optimizer steps between two checkpoints, beside the one after each epoch."""
    log_every: Positive = 50
    """Steps between two reads of the loss, each of which waits for the device."""


class Config(_Section):
    """The whole config; see the three sections."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig = TrainConfig()


def bundled_configs() -> Path:
    """Folder of the configs that come with the package (report.yaml, tuned.yaml, features/)."""
    package = Path(__file__).resolve().parent
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a config.

    Parameters
    ----------
    source : a YAML file, or the name of a bundled config ("report", "tuned").
    overrides : ``section.key=value`` strings; values are read as YAML. Paths given here are
        relative to the working directory, paths inside the file to the file.

    Raises
    ------
    ConfigError : the file cannot be read, or a key or value is not allowed.
    """
    path = Path(source)
    # A folder of that name, as runs may be called, hides no bundled config.
    if not path.is_file() and path.suffix == "" and path.parent == Path():
        named = bundled_configs() / f"{path.name}.yaml"
        if not named.is_file():
            known = ", ".join(sorted(p.stem for p in bundled_configs().glob("*.yaml")))
            raise ConfigError(
                f"config {str(source)!r}: no such file and no bundled config of that name; "
                f"bundled: {known}"
            )
        path = named
    tree = _read_yaml(path)
    _anchor_paths(tree, path.parent)
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        line = _first_line(error)
        given = [o for o in overrides if line.startswith(f"{o.partition('=')[0].strip()}:")]
        raise ConfigError(f"{f'--set {given[-1]}' if given else path}: {line}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = load_yaml(read_text(path, YAML_BYTES))
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a config is a mapping with the sections data, model, train")
    return tree


def _anchor_paths(tree: dict[str, Any], folder: Path) -> None:
    data = tree.get("data")
    if not isinstance(data, dict):
        return
    for key in ("features", "bars"):
        value = data.get(key)
        if isinstance(value, str) and value != "sample" and not value.startswith("synthetic:"):
            data[key] = str(folder / value)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name) or "." in name:
        raise ConfigError(f"--set {override!r}: write section.key=value, as train.batch_size=256")
    try:
        value = load_yaml(text)
    except DocumentError as error:
        raise ConfigError(f"--set {override!r}: {error}") from None
    branch = tree.setdefault(section, {})
    if not isinstance(branch, dict):
        raise ConfigError(f"{section}: must be a section of keys, got {branch!r}")
    branch[name] = value


def _first_line(error: ValidationError) -> str:
    """The first problem in pydantic's list as one line, with a count of the others."""
    problems = error.errors(include_url=False)
    first = problems[0]
    path = [str(part) for part in first["loc"]]
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        line = _unknown_key(path)
    elif first["type"] == "missing":
        line = f"{'.'.join(path)}: missing; give it a value"
    elif first["type"] == "value_error":
        line = ".".join([*path, str(first["ctx"]["error"])])
    else:
        # A union adds the name of its branch to the location; the key is what precedes it.
        path = path[:2]
        line = f"{'.'.join(path)}: {first['msg'][0].lower()}{first['msg'][1:]}, got {_shown(given)}"
    more = len(problems) - 1
    return line + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _unknown_key(path: list[str]) -> str:
    sections: dict[str, type[BaseModel]] = {
        "data": DataConfig,
        "model": ModelConfig,
        "train": TrainConfig,
    }
    owner = sections.get(path[0], Config) if len(path) > 1 else Config
    allowed = list(owner.model_fields)
    close = difflib.get_close_matches(path[-1], allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{'.'.join(path)}: unknown key; {hint}allowed: {', '.join(allowed)}"
