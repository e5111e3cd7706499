"""The code blocks of the documentation run as they stand there, and what it names exists."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import results
from experiments.configs import token_prior_mnist, vqvae_mnist
from jaxgen import models, runs
from jaxgen.data import load

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "jaxgen/README.md", "experiments/README.md")
README, PARTS, EXPERIMENTS = ((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)


def run_blocks(text):
    """The names that the Python blocks of a document leave, run in order."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "README.md", "exec"), names)
    return names


def write_prior(directory):
    """A run of a token prior with random weights, as a training leaves it."""
    config, codes = token_prior_mnist.get_config("smoke"), vqvae_mnist.get_config("smoke")
    data = load("mnist_5k", "test")
    tokenizer = {**codes.model.to_dict(), "example_channels": 1}
    description = {**config.model.to_dict(), "tokenizer": tokenizer, "shape": (7, 7),
                   "conditions": {"name": "classes", "count": 10}}
    values = {**config.to_dict(), "model": description, "example_shape": data.example_shape,
              "spec": data.spec.to_json(),
              "data": {**codes.data.to_dict(), "test_split": "test[:8]"}}
    run = runs.open_run(directory, values)
    variables = jax.jit(lambda key: models.build(**description).init(key, data.example_shape))(jax.random.key(0))
    with runs.Checkpointer(run.checkpoints) as checkpointer:
        checkpointer.save(1, {"params": variables.params, "model_state": variables.state})


def test_the_first_examples_and_a_run_read_back(tmp_path, monkeypatch):
    write_prior(tmp_path / "runs" / "prior")
    monkeypatch.chdir(tmp_path)
    names = run_blocks(README)
    assert names["output"].indices.shape == (4, 7, 7) and set(names["output"].losses) == {"codebook", "commitment"}
    # The example's data have a std of 0.5, and so must the samples.
    assert abs(float(np.std(names["x0"])) - 0.5) < 0.05
    assert names["images"].shape == names["x_r"].shape == (16, 28, 28, 1) and np.isfinite(names["images"]).all()
    assert names["numbers"]["bits_per_token"] > 0 and names["numbers"]["psnr"] > 0


def test_the_parts_do_what_their_document_says():
    names = run_blocks(PARTS)
    assert names["output"].indices.max() <= 6 and np.isfinite(names["loss"])
    # Hinge and l1 have comparable gradients, and an untrained generator is no reason for the largest weight.
    assert 0 < names["metrics"]["gan_weight"] < 1e4 and names["x_r"].shape == (2, 32, 32, 3)
    assert names["samples"].shape == names["same"].shape == (4, 16, 16, 3) and np.isfinite(names["same"]).all()
    assert names["codes"].max() < 512 and (names["codes"][:, :21] == 0).all()
    assert len(np.unique(names["codes"][:, 21:])) > 20
    assert names["batch"]["image"].shape == (4, 8, 8, 1) and float(names["batch"]["image"].max()) == -1.0
    for before, after in zip(*map(jax.tree.leaves, (names["params"]["network"], names["loaded"].params)), strict=True):
        np.testing.assert_array_equal(before, after)
    quantizer, z = names["rounding"](-3, 3), jax.random.normal(jax.random.key(0), (5, 1))
    output, state = quantizer.apply(quantizer.init(None, 1), z)
    np.testing.assert_array_equal(output.quantized, np.clip(np.round(z), -3, 3))
    np.testing.assert_array_equal(quantizer.lookup(quantizer.init(None, 1), output.indices), output.quantized)
    assert quantizer.num_codes == 7 and state == {}
    described = {"name": "projected", "quantizer": {"name": "my_module.rounding", "low": -3, "high": 3}, "dim": 1}
    own = names["own_build"]("vqvae", quantizer=described, latent_channels=4, example_channels=1)
    assert own.num_codes == 7




def test_nothing_was_left_to_fill_in():
    assert re.findall(r"@[A-Z_]+@|TODO", README + PARTS + EXPERIMENTS) == []


def test_the_first_document_is_read_in_minutes():
    assert len(README.splitlines()) <= 200


def test_every_configuration_is_named():
    configs = {p.stem for p in (ROOT / "experiments" / "configs").glob("[a-z]*_*.py")}
    assert {name for name in configs if f"`{name}`" not in EXPERIMENTS} == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_script_and_link_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for script in re.findall(r"python -m (experiments\.\w+)", text):
        assert (ROOT / f"{script.replace('.', '/')}.py").is_file(), script
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / link).exists(), link


def test_tables_and_headers_are_what_the_records_say():
    wrong = [path for path, text in results.documents().items() if path.read_text(encoding="utf-8") != text]
    assert wrong == [], "run python -m experiments.results"
