"""Options that are paths: `~` is the home directory in all of them."""

import re
from pathlib import Path

import pytest

import experiments
from experiments.common import command_line
from experiments.configs import vqgan_mnist
from experiments.train_vqgan import perceptual_distance
from jaxgen import models, runs

FILES = Path(experiments.__file__).parent
SCRIPTS = sorted([*FILES.glob("*.py"), *FILES.glob("common/*.py")])
PATHS = {"workdir", "output", "images", "mask", "npz", "png_folder", "gif", "lpips", "load", "folder", "font", "file"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "empty").mkdir(parents=True)
    return tmp_path / "home"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_s_options_that_are_paths_are_defined_as_such(script):
    names = re.findall(r'flags\.DEFINE_(?:string|list|multi_string)\(\s*"(\w+)"', script.read_text(encoding="utf-8"))
    assert PATHS.isdisjoint(names)


def test_an_option_that_is_a_path_is_expanded(home):
    holder = command_line.define_path("path_of_a_test", None, "A path.")
    values = command_line.flags.FLAGS
    try:
        values["path_of_a_test"].parse("~/a.png")
        assert values["path_of_a_test"].value == str(home / "a.png") and holder.name == "path_of_a_test"
        with pytest.raises(command_line.flags.IllegalFlagValueError, match="a path is empty"):
            values["path_of_a_test"].parse("")
    finally:
        delattr(values, "path_of_a_test")


def test_the_first_stage_s_run_is_looked_for_in_the_home_directory(home, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{home}/empty is not a run's directory: it has no config.json"):
        runs.find_first_stage("tokenizer", "~/empty", tmp_path / "new", able=models.Tokenizer, source="")


def test_the_perceptual_loss_s_run_is_looked_for_in_the_home_directory(home):
    config = vqgan_mnist.get_config("smoke")
    config.perceptual.update(name="classifier", file="~/empty")
    with pytest.raises(FileNotFoundError, match=f"{home}/empty is not a run's directory: it has no config.json"):
        perceptual_distance(config, (32, 32, 1))


def test_lpips_s_weights_are_looked_for_in_the_home_directory(home):
    config = vqgan_mnist.get_config("smoke")
    config.perceptual.update(name="lpips", file="~/vgg.safetensors")
    with pytest.raises(FileNotFoundError, match=f"no LPIPS weights at {home}/vgg.safetensors"):
        perceptual_distance(config, (32, 32, 1))
