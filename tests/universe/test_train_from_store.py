"""``tfa-perf train --store``: windows, split and scaler are those of the same bars in one table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tfa_perf.cli import main
from tfa_perf.config import ConfigError, DataConfig, load_config
from tfa_perf.data import (
    Scaler,
    build_dataset,
    create_store,
    load_bars,
    open_store,
    store_dataset,
    synthetic_bars,
)
from tfa_perf.data.store_meta import check_meta, read_meta
from tfa_perf.train.setup import make_loader
from tfa_perf.universe import build_universe

LABELS = {"horizon": 2, "min_move": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write, plain_spec):
    """Bars of two symbols in two files, in one table, and as a store."""
    folder = tmp_path_factory.mktemp("train")
    bars = replace(synthetic_bars(800, 3, symbols=2), symbols=("A", "B"))
    cut = bars.offsets[1]
    for name, rows in (("A", slice(0, cut)), ("B", slice(cut, None))):
        columns = {c: getattr(bars, c)[rows] for c in ("open", "high", "low", "close", "volume")}
        ts = bars.ts[rows]
        one = replace(bars, ts=ts, **columns, symbols=("",), offsets=np.array([0, len(ts)]))
        write(folder / f"bars/{name}.parquet", one)
    (folder / "spec.json").write_text(json.dumps(plain_spec))
    files, spec = str(folder / "bars/*"), folder / "spec.json"
    assert build_universe(files, folder / "store", spec, workers=1, **LABELS).published
    write(folder / "whole.parquet", bars, symbols=True)
    return folder


def config_of(folder, **changes):
    values = {"features": str(folder / "spec.json"), "window": 5, "train_fraction": 0.7, **LABELS}
    return DataConfig(**{**values, **changes})


def batches(dataset, data, **train):
    config = load_config("tuned")
    trained = config.train.model_copy(update={"batch_size": 64, **train})
    config = config.model_copy(update={"data": data, "train": trained})
    loader = make_loader(dataset, config, torch.device("cpu"))
    return [tuple(each.clone() for each in batch) for batch in loader]


def test_a_store_gives_the_windows_of_its_bars(folder):
    config = config_of(folder)
    stored = store_dataset(open_store(folder / "store"), config)
    built = build_dataset(load_bars(folder / "whole.parquet"), config)
    for name in ("train_ends", "val_ends", "train_rows"):
        assert np.array_equal(getattr(stored.split, name), getattr(built.split, name))
    assert stored.scaler.to_dict() == built.scaler.to_dict()
    found, wanted = batches(stored, config), batches(built, config)
    assert len(found) == len(wanted) > 5
    for (x, y), (expected, labels) in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(y, labels)


def test_no_window_crosses_a_symbol_or_the_cut(folder):
    store = open_store(folder / "store")
    config = config_of(folder)
    split = store_dataset(store, config).split
    series = np.searchsorted(store.offsets, np.arange(len(store)), side="right")
    for ends in (split.train_ends, split.val_ends):
        assert np.array_equal(series[ends - config.window + 1], series[ends + config.horizon])
    first_validated = store.ts[split.val_ends - config.window + 1].min()
    assert store.ts[split.train_ends + config.horizon].max() < first_validated


def test_blocks_of_a_large_store_are_shuffled(folder):
    config = config_of(folder)
    dataset = store_dataset(open_store(folder / "store"), config)
    rows = [sum(len(x) for x, _ in batches(dataset, config, shuffle=s)) for s in (True, "block")]
    assert rows == [len(dataset.split.train_ends)] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon": 1}, "data.horizon: 1, but the labels in .* --set data.horizon=2"),
        ({"min_move": None}, "data.min_move: None, but .* --set data.min_move=1e-05"),
        ({"min_volume": 3.0}, "data.min_volume: 3.0, but .* --set data.min_volume=null"),
        ({"features": load_config("tuned").data.features}, "data.features: .*tfa55.json is ano"),
    ],
)
def test_a_store_of_another_config_is_refused(folder, changes, words):
    with pytest.raises(ConfigError, match=words):
        store_dataset(open_store(folder / "store"), config_of(folder, **changes))


def test_scaled_features_are_refused(folder, tmp_path):
    store = open_store(folder / "store")
    with create_store(tmp_path, rows=len(store), features=4) as writer:
        writer.commit(
            names=store.names, spec_hash=store.spec_hash, convention=store.convention,
            scaler=Scaler(np.zeros(4), np.ones(4)), scaled=True,
        )  # fmt: skip
    # It does not say what its labels are; those of the config are taken for it.
    assert open_store(tmp_path).label_rule is None
    with pytest.raises(ConfigError, match="scaled features"):
        store_dataset(open_store(tmp_path), config_of(folder))


def test_an_edited_rule_of_labels_is_refused(folder):
    meta = read_meta(folder / "store")
    rule = {"horizon": 2, "min_volume": None, "min_move": 1e-5}
    assert meta["label_rule"] == rule
    edited = ({}, [], "2", {**rule, "horizon": 0}, {**rule, "min_move": "1"}, {**rule, "more": 1})
    for other in edited:
        with pytest.raises(ValueError, match="'label_rule' is"):
            check_meta({**meta, "label_rule": other})


def test_the_command(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    sets = [f"data.{name}={value}" for name, value in LABELS.items()]
    sets += ["data.features=spec.json", "data.window=5", "train.batch_size=64"]
    sets += ["model.d_model=8", "model.nhead=2", "model.num_layers=1", "model.ffn_hidden=8"]
    flags = [part for each in sets for part in ("--set", each)]
    command = ["train", "--device", "cpu", "--steps", "2", "--out", "model.pt", *flags]
    assert main([*command, "--store", "store"]) == 0
    assert "800 bars, 4 features" in capsys.readouterr().out
    saved = torch.load("model.pt", weights_only=True)
    assert saved["features"] == ["close", "rsi", "sma", "atr"]
    assert main([*command, "--store", "none"]) == 2
    assert "none: no feature store here; build one with" in capsys.readouterr().err
    assert main([*command, "--store", "store", "--set", "data.horizon=3"]) == 2
    assert "--set data.horizon=2" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*command, "--store", "store", "--bars", "sample"])
    assert ended.value.code == 2
    assert "--bars: not allowed with argument --store" in capsys.readouterr().err
