"""What users type: options of a configuration, files of their own, other directories, and what is said at the end."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import command_line
from experiments.configs import diffusion_mnist
from jaxgen import diffusion, runs
from tests.experiments import forked

UNET = {"name": "unet", "channels": (8,), "down": ("plain",)}
CODES = {"name": "vqvae", "latent_channels": 4, "encoder": {"channels": 8, "norm": "none"},
         "decoder": {"channels": 8, "norm": "none"}, "quantizer": {"name": "vq", "num_codes": 4}, "example_channels": 1}


@pytest.mark.parametrize(("description", "script"), [
    (CODES, "reconstruct"), ({"name": "classifier", "num_classes": 2}, "evaluate"),
    ({"name": "diffusion", "shape": (8, 8, 1), "network": UNET}, "sample"),
])
def test_the_next_step_is_a_command_for_what_the_model_can_do(tmp_path, description, script):
    runs.open_run(tmp_path / "my run", {"model": description, "example_shape": (8, 8, 1)})
    assert command_line.next_step(f"{tmp_path}/my run") == (
        f"next: python -m experiments.{script} --workdir='{tmp_path}/my run'")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_training_that_was_stopped_ends_with_the_status_that_a_shell_has(name, status, capsys):
    with pytest.raises(SystemExit) as exit:
        command_line.end(name, "runs/a")
    assert exit.value.code == status and capsys.readouterr().out == ""


def test_the_next_step_of_a_training_by_ones_own_quantizer_is_in_python(tmp_path):
    description = {**CODES, "quantizer": {"name": "mine.signs"}}
    runs.open_run(tmp_path / "run", {"model": description, "example_shape": (8, 8, 1)})
    step = command_line.next_step(tmp_path / "run")
    assert re.fullmatch(r"next: read the run back in Python\. .* import mine and pass the function.*", step)


def test_an_option_of_another_weighting_is_refused_and_what_the_configuration_keeps_of_one_is_left_out():
    config = diffusion_mnist.get_config("smoke")
    with pytest.raises(ValueError, match=r"value config\.weighting\.gamma: 'gamma': expected one of 'name', 'sigma"):
        command_line.check_value_name("config", "--config.weighting.gamma=3", config)
    command_line.check_value_name("config", "--config.weighting.name=min_snr", config)
    config.weighting.name = "min_snr"
    assert "sigma_data" in config.weighting  # of "edm"
    np.testing.assert_allclose(diffusion.make_weighting(**config.weighting)(jnp.array([0.1, 1.0])), [5, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="option of weighting 'min_snr': 'gama'.*Did you mean 'gamma'"):
        diffusion.make_weighting(**config.weighting, gama=3.0)


@pytest.mark.parametrize(("end", "status", "text"), [
    ("sys.exit('this recipe needs a GPU')", 1, "this recipe needs a GPU\n"), ("sys.exit(3)", 3, ""),
    ("sys.exit()", 0, ""), ("raise ValueError('folder is empty')", 1, "error: folder is empty\n"),
])
def test_a_configuration_file_ends_the_script_with_its_own_status_and_text(scripts, tmp_path, end, status, text):
    (tmp_path / "mine.py").write_text(f"import sys\n\n\ndef get_config(variant=None):\n    {end}\n")
    arguments = ["--workdir=new", "--config=mine.py"]
    ended = forked.run("train_vqvae", arguments, scripts.environment, tmp_path, cwd=tmp_path)
    assert ended == (status, "", text) and not (tmp_path / "new").exists()
