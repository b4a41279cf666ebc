import pytest
import yaml
from pydantic import ValidationError

from tfa_kernels import load_spec
from tfa_perf.config import Config, ConfigError, bundled_configs, load_config


def test_report_config_holds_the_reports_values():
    config = load_config("report")
    model, train = config.model, config.train
    assert config.data.window == 48
    assert (model.d_model, model.nhead, model.num_layers, model.ffn_hidden) == (128, 8, 3, 256)
    assert (train.batch_size, train.epochs) == (1024, 25)


def test_tuned_config_holds_the_recommendation():
    config = load_config(bundled_configs() / "tuned.yaml")
    model, train = config.model, config.train
    assert config.data.window == 32
    assert (model.d_model, model.nhead, model.num_layers, model.ffn_hidden) == (96, 4, 2, 192)
    assert train.accumulation > 1
    assert train.amp == "auto"


def test_bundled_feature_spec_has_55_features():
    assert len(load_spec(load_config("report").data.features).features) == 55


def test_config_is_frozen():
    with pytest.raises(ValidationError):
        load_config("report").train.lr = 1.0


@pytest.mark.parametrize(
    ("override", "attribute", "expected"),
    [
        ("train.batch_size=256", "batch_size", 256),
        ("train.lr=1e-3", "lr", 1e-3),
        ("train.lr=1", "lr", 1.0),
        ("train.clip_norm=null", "clip_norm", None),
        ("train.amp=off", "amp", "off"),
        ("train.shuffle=false", "shuffle", False),
    ],
)
def test_set_overrides_one_key(override, attribute, expected):
    assert getattr(load_config("report", [override]).train, attribute) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.nhead=7", ["model.nhead", "7", "d_model 128", "1, 2, 4"]),
        ("model.d_modle=64", ["model.d_modle", "unknown key", "'d_model'"]),
        ("modle.d_model=64", ["modle", "unknown key", "'model'"]),
        ("train.batch_size=many", ["train.batch_size", "integer", "'many'"]),
        ("train.batch_size=0", ["train.batch_size", "greater than", "0"]),
        ("train.batch_size=true", ["train.batch_size", "True"]),
        ("train.lr=nan", ["train.lr", "nan"]),
        ("train.seed=99999999999999999999", ["train.seed", "less than"]),
        ("train.lr=.nan", ["train.lr", "finite"]),
        ("train.clip_norm=x", ["train.clip_norm", "'x'"]),
        ("train.amp=fp8", ["train.amp", "'bf16'", "'fp8'"]),
        ("model.d_model=null", ["model.d_model", "None"]),
        ("model.positions=sine", ["model.positions", "'rotary'", "'sine'"]),
        ("train.graph=perhaps", ["train.graph", "'perhaps'"]),
        ("batch_size=1", ["section.key=value"]),
        ("train.batch_size", ["section.key=value"]),
        ("train.a.b=1", ["section.key=value"]),
        ("train.lr=[", ["not valid YAML"]),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config("report", [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["mapping", "data"]),
        ("[1, 2]", ["mapping"]),
        ("model: {", ["line 1"]),
        ("a: 1\n\tb: 2", ["line 2"]),
        ("!!python/object/apply:os.system ['true']", ["line 1"]),
        ("data: {features: x.json, window: 4}", ["model", "missing"]),
        ("data: 3\nmodel: 4", ["data", "3", "1 more problem"]),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["bad.yaml", *words]:
        assert word in message


def test_a_folder_of_its_name_hides_no_bundled_config(tmp_path, monkeypatch):
    (tmp_path / "tuned").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("tuned") == load_config(bundled_configs() / "tuned.yaml")


def test_a_missing_file_and_an_unknown_name_say_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="bundled: report, tuned"):
        load_config("reprot")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "bytes.yaml")


def test_paths_in_the_file_are_relative_to_it_and_overrides_to_the_working_directory(tmp_path):
    tree = yaml.safe_load((bundled_configs() / "report.yaml").read_text())
    tree["data"]["bars"] = "bars.csv"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    assert config.data.bars == str(tmp_path / "bars.csv")
    assert config.data.features == str(tmp_path / "features/tfa55.json")
    assert load_config(path, ["data.bars=other.csv"]).data.bars == "other.csv"
    assert load_config("report").data.bars == "sample"


def test_dump_and_validate_round_trip():
    config = load_config("tuned")
    assert Config.model_validate(config.model_dump()) == config


def test_rotary_positions_need_an_even_head():
    with pytest.raises(ConfigError, match=r"model.positions: rotary.*a head has 3 columns"):
        load_config("report", ["model.d_model=24", "model.nhead=8", "model.positions=rotary"])
