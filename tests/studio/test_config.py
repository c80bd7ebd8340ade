from pathlib import Path
from typing import Any

import pytest
import tomli

from studio import config
from studio.config import WorkspaceSettings
from studio.errors import SettingsError, UsageError
from studio.settings import GenerateSettings, ImportSettings, LoraMethod, TrainSettings
from tests.hostile import PAYLOADS


def faults_of(text: str, model: Any, path: Path) -> dict[str, str]:
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        config.load(path, model)
    assert caught.value.exit_code == 2
    for fault_path, _ in caught.value.faults:
        assert fault_path in caught.value.message
    return dict(caught.value.faults)


# Reading


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    text = 'schema = 1\ndevice = "gpu"\ncpu_threads = -2\ncolour = "red"\n'
    faults = faults_of(text, WorkspaceSettings, tmp_path / "studio.toml")
    assert set(faults) == {"device", "cpu_threads", "colour"}
    assert faults["colour"] == "is not a setting"
    assert faults["cpu_threads"] == "must be greater than or equal to 0 (given: -2)"


def test_faults_deep_in_a_recipe_have_their_path(tmp_path: Path) -> None:
    text = '[optimiser]\nsteps = 0\nprecision = "fp8"\n[method]\nname = "lora"\nrank = "big"\n'
    faults = faults_of(text, TrainSettings, tmp_path / "r.toml")
    assert {path.rpartition(".")[2] for path in faults} == {"steps", "precision", "rank"}
    assert {"optimiser.steps", "optimiser.precision"} <= set(faults)


def test_a_later_shape_of_workspace_is_refused(tmp_path: Path) -> None:
    assert set(faults_of("schema = 2\n", WorkspaceSettings, tmp_path / "studio.toml")) == {"schema"}


@pytest.mark.parametrize("text", ["device = ", "[", "device = 1\ndevice = 2", "x = " + "[" * 50_000])
def test_what_is_not_toml_is_one_fault(text: str, tmp_path: Path) -> None:
    assert set(faults_of(text, WorkspaceSettings, tmp_path / "studio.toml")) == {"file"}


def test_a_missing_file_and_a_folder_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no settings file .*none\.toml"):
        config.read_toml(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        config.read_toml(tmp_path)


def test_what_does_not_go_together_is_told_without_a_path_or_all_that_was_given(tmp_path: Path) -> None:
    faults = faults_of('mask = "a.png"\n', GenerateSettings, tmp_path / "g.toml")
    assert faults == {"": "a mask needs a picture to begin from (init)"}
    with pytest.raises(SettingsError) as caught:
        config.check({"mask": "a.png"}, GenerateSettings, "The generation")
    assert caught.value.message == "The generation has 1 fault: a mask needs a picture to begin from (init)."
    deep = faults_of('[saving]\nrank_by = "kid"\n', TrainSettings, tmp_path / "r.toml")
    assert deep == {"saving": "rank_by = kid needs measure_every, the steps between looks at it"}


def test_a_long_or_broken_value_is_told_in_one_short_line(tmp_path: Path) -> None:
    fault = faults_of(f'device = "{"x" * 5000}"\n', WorkspaceSettings, tmp_path / "a.toml")["device"]
    assert len(fault) < 200
    fault = faults_of('device = "\\u001b]52;c;x\\n"\n', WorkspaceSettings, tmp_path / "b.toml")["device"]
    assert "\x1b" not in fault
    assert "\n" not in fault


# Writing


@pytest.mark.parametrize("text", [*(one for one in PAYLOADS if "\ud800" not in one), "raw \udcff byte", "a\r\nb"])
def test_any_text_comes_back_as_it_was_written(text: str, tmp_path: Path) -> None:
    settings = ImportSettings(source=text, name="x", caption=text)
    config.save(tmp_path / "config.toml", settings)
    assert config.load(tmp_path / "config.toml", ImportSettings) == settings


def test_comments_and_order_of_a_person_stay(tmp_path: Path) -> None:
    path = tmp_path / "studio.toml"
    path.write_text('# mine\ncpu_threads = 2  # few\n\ndevice = "auto"\nschema = 1\n')
    config.save(path, WorkspaceSettings(cpu_threads=4))
    assert path.read_text().startswith('# mine\ncpu_threads = 4  # few\n\ndevice = "auto"\nschema = 1\n')
    assert config.load(path, WorkspaceSettings).cpu_threads == 4


def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    settings = TrainSettings(method=LoraMethod(rank=4))
    config.save(tmp_path / "r.toml", settings)
    assert config.load(tmp_path / "r.toml", TrainSettings) == settings


def test_settings_without_a_value_are_left_out(tmp_path: Path) -> None:
    config.save(tmp_path / "g.toml", GenerateSettings())
    assert "sampler" not in tomli.loads((tmp_path / "g.toml").read_text())


# key=value


@pytest.mark.parametrize(
    ("word", "nested"),
    [
        ("steps=200", {"optimiser": {"steps": 200}}),
        ("optimiser.steps=200", {"optimiser": {"steps": 200}}),
        ("rank = 4", {"method": {"rank": 4}}),
        ("base=starter", {"base": "starter"}),
        ('base="a b"', {"base": "a b"}),
        ("class_captions=0.5", {"data": {"class_captions": 0.5}}),
        ("description=a=b", {"description": "a=b"}),
        ("description=", {"description": ""}),
        ("description=1\nseed = 2", {"description": "1\nseed = 2"}),
        ('preview_prompts=["a", "b"]', {"saving": {"preview_prompts": ["a", "b"]}}),
    ],
)
def test_a_word_sets_a_setting_by_its_path_or_its_last_part(word: str, nested: dict[str, Any]) -> None:
    assert config.parse_sets([word], TrainSettings, {"method": {"name": "lora"}}) == nested


def test_several_words_of_one_table_are_laid_together() -> None:
    nested = config.parse_sets(["steps=2", "batch=1"], TrainSettings, {})
    assert nested == {"optimiser": {"steps": 2, "batch": 1}}


def test_the_settings_are_those_of_the_method_chosen() -> None:
    assert "method.rank" in config.setting_paths(TrainSettings, {"method": {"name": "lora"}})
    assert "method.rank" not in config.setting_paths(TrainSettings, {"method": {"name": "full"}})


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("steps", "--set steps has no value"),
        ("stpes=3", "Did you mean"),
        ("name=x", "could mean"),
        ("=3", "There is no setting"),
        ("__class__=3", "There is no setting"),
    ],
)
def test_a_word_that_sets_nothing_is_refused(word: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        config.parse_sets([word], TrainSettings, {})


def test_settings_never_change_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainSettings().seed = 3  # type: ignore[misc]
