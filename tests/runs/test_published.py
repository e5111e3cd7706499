"""Published checkpoints: what comes back, what is refused, names of shipped ones; `safetensors` reads the files too."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jaxgen import runs
from jaxgen.core.types import Variables
from jaxgen.runs import DamagedCheckpointError, Run, load, locate, open_run, publish, shipped
from jaxgen.runs.weights_file import write_weights

STEP = 7
CONFIG = {"model": {"name": "toy"}, "example_shape": [4], "seed": 3, "num_steps": 9, "optimizer": {"name": "adam"},
          "tokenizer": "/home/somebody/runs/codes", "perceptual": {"file": "~/runs/classifier"}, "other": "runs/a",
          "data": {"name": "digits", "options": {"folder": "/home/somebody/images"}}}


class Toy(NamedTuple):
    """A model over a first stage, whose variables are in its state."""

    def init(self, key, example_shape):
        return jax.tree.map(jnp.zeros_like, variables())


def variables():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    first = Variables({"encoder": {"kernel": normal(4, 3)}}, {"counts": normal(5) * 1e6, "started": jnp.array(True)})
    return Variables({"network": {"kernel": normal(3, 6), "bias": normal(6), "scale": normal()}},
                     {"tokenizer": first, "usage": normal(3), "seen": jnp.array([2**24 + 1, 5])})


def build(**description):
    return Toy()


def toy_run(path=Path("runs/toy"), values=None):
    return Run(path, CONFIG, Toy(), variables() if values is None else values, STEP)


def published(tmp_path, **options):
    return publish(toy_run(), tmp_path / "toy", evaluations=(), **options)


def half_of(tree, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype).astype(np.float32), tree)


def assert_same(tree, wanted):
    assert jax.tree.structure(tree) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16),
                                             ("float32", np.float32)])
def test_what_gradients_trained_comes_back_in_half_precision_and_the_rest_exactly(tmp_path, name, dtype):
    published(tmp_path, dtype=name)
    run, whole = load(tmp_path / "toy", build=build), variables()
    first = whole.state["tokenizer"]
    stage = Variables(half_of(first.params, dtype), first.state)
    assert_same(run.variables, Variables(half_of(whole.params, dtype), {**whole.state, "tokenizer": stage}))
    assert run.step == STEP and run.path == tmp_path / "toy"


def test_the_file_is_what_other_programs_read(tmp_path):
    published(tmp_path)
    file = tmp_path / "toy" / "model.safetensors"
    tensors, whole = load_file(file), variables()
    assert {name: str(tensor.dtype) for name, tensor in tensors.items()} == {
        "params/network/bias": "float16", "params/network/kernel": "float16", "params/network/scale": "float16",
        "state/seen": "int32", "state/tokenizer/params/encoder/kernel": "float16",
        "state/tokenizer/state/counts": "float32", "state/tokenizer/state/started": "bool", "state/usage": "float32"}
    np.testing.assert_array_equal(tensors["params/network/kernel"],
                                  np.asarray(whole.params["network"]["kernel"]).astype(np.float16))
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    assert (metadata["format"], metadata["step"]) == ("jaxgen-weights", str(STEP))
    before = metadata["source"]
    values = variables()
    values.params["network"]["bias"] = values.params["network"]["bias"].at[2].add(1e-6)  # lost in half precision
    publish(toy_run(values=values), tmp_path / "other", evaluations=())
    with safe_open(tmp_path / "other" / "model.safetensors", "numpy") as opened:
        assert opened.metadata()["source"] != before


def test_a_tensor_that_float16_does_not_reach_becomes_bfloat16(tmp_path):
    values = variables()
    values.params["network"]["bias"] = jnp.array([1e5, 1.0, -3e38, 0.0, 2.5, 1e-30])
    publish(toy_run(values=values), tmp_path / "toy", evaluations=())
    found = load(tmp_path / "toy", build=build).variables.params["network"]
    np.testing.assert_array_equal(found["bias"], half_of(values.params["network"]["bias"], ml_dtypes.bfloat16))
    np.testing.assert_array_equal(found["kernel"], half_of(values.params["network"]["kernel"], np.float16))


def test_weights_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path):
    values = variables()
    values.state["usage"] = values.state["usage"].at[1].set(jnp.nan)
    with pytest.raises(ValueError, match="tensor 'state/usage' has numbers that are not finite"):
        publish(toy_run(values=values), tmp_path / "toy", evaluations=())
    assert list(tmp_path.iterdir()) == []


def test_any_changed_byte_is_noticed_and_the_file_named(tmp_path):
    published(tmp_path)
    for name in ("model.safetensors", "config.json"):
        file = tmp_path / "toy" / name
        content = file.read_bytes()
        text = name == "config.json"  # of which spaces and the end of the last line say nothing
        places = [i for i in range(3, len(content), 13) if not (text and chr(content[i]).isspace())]
        assert len(places) > 20, name
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 6
            file.write_bytes(bytes(damaged))
            with pytest.raises(ValueError, match=name):
                load(tmp_path / "toy", build=build)
        for cut in (0, 5, len(content) // 2, len(content) - 1):
            if not (text and cut == len(content) - 1):
                file.write_bytes(content[:cut])
                with pytest.raises(ValueError, match=f"{name} is damaged"):
                    load(tmp_path / "toy", build=build)
        file.write_bytes(content)
    damaged = bytearray((tmp_path / "toy" / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "toy" / "model.safetensors").write_bytes(bytes(damaged))
    with pytest.raises(DamagedCheckpointError, match="its contents are not those that were written"):
        load(tmp_path / "toy", build=build)


def test_weights_of_another_model_are_named(tmp_path):
    published(tmp_path)
    values = variables()
    values.params["network"]["kernel"] = jnp.zeros((3, 7))
    write_weights(tmp_path / "toy" / "model.safetensors", values, step=STEP)
    with pytest.raises(ValueError, match=r"at params/network/kernel it has tensor \[3, 7\], but tensor \[3, 6\]"):
        load(tmp_path / "toy", build=build)


def test_another_step_than_the_published_one_is_not_there(tmp_path):
    published(tmp_path)
    assert load(tmp_path / "toy", build=build, step=STEP).step == STEP
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3 in .*published at step 7"):
        load(tmp_path / "toy", build=build, step=3)


def test_a_directory_of_something_else_is_left_alone_and_nothing_trains_in_a_published_one(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a published checkpoint"):
        published(tmp_path)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["mine.txt"]
    publish(toy_run(), tmp_path / "other", evaluations=())
    with pytest.raises(ValueError, match="holds a published checkpoint, in which nothing is trained"):
        open_run(tmp_path / "other", CONFIG)


def test_weights_that_are_too_large_are_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match=r"would have [\d,]+ bytes, and max_bytes is 100"):
        publish(toy_run(), tmp_path / "toy", max_bytes=100)  # a run without data, which could not be measured
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_keeps_no_place_of_this_machine_but_the_datas(tmp_path):
    config = published(tmp_path).config
    assert (config["tokenizer"], config["perceptual"]["file"], config["other"]) == ("codes", "classifier", "runs/a")
    assert {**config, "tokenizer": 0, "perceptual": 0} == {**CONFIG, "tokenizer": 0, "perceptual": 0}


def test_what_is_written_by_hand_stays_when_the_card_is_written_again(tmp_path):
    published(tmp_path)
    card = tmp_path / "toy" / "README.md"
    text = card.read_text()
    assert "# toy\n" in text and "7 steps" in text and "seed 3" in text and "/home" not in text
    mine = "## Limits\n\nDigits only: \\d+, and <b>no</b> letters.\n\n## More\n\nNothing."
    start = text.index("-->\n", text.index("written by hand")) + 4
    card.write_text(text[:start] + mine + text[text.index("\n<!-- end -->"):] )
    published(tmp_path, dtype="bfloat16")
    assert card.read_text() == text[:start] + mine + text[text.index("\n<!-- end -->"):]


def test_the_time_of_a_training_leaves_pauses_out(tmp_path):
    run = toy_run(tmp_path)
    starts = [{"time": "1970-01-01T00:01:00Z", "devices": ["cpu: cpu"]},
              {"time": "1970-01-01T01:00:00Z", "devices": ["gpu: H100"]}]
    (tmp_path / "environment.json").write_text(json.dumps(starts))
    records = [{"step": 1, "time": 70.0}, {"step": 2, "time": 100.0}, {"step": 5, "time": 3610.5},
               {"step": 9, "time": 3700.0}]  # the last one comes after the published step
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    publish(run, tmp_path / "toy", evaluations=())
    written = json.loads((tmp_path / "toy" / "reproduce.json").read_text())
    assert written["training"] == {"seconds": round(40 + 10.5), "devices": ["cpu: cpu", "gpu: H100"]}
    publish(load(tmp_path / "toy", build=build), tmp_path / "again", evaluations=())
    assert json.loads((tmp_path / "again" / "reproduce.json").read_text())["training"] == written["training"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two shipped checkpoints, and a directory that is none."""
    place = tmp_path / "shipped"
    published(place)
    shutil.copytree(place / "toy", place / "vqvae_toy")
    (place / "notes").mkdir()
    monkeypatch.setenv("JAXGEN_CHECKPOINTS", str(place))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return place


def test_a_bare_name_is_that_of_a_shipped_checkpoint(folder):
    assert list(shipped()) == ["toy", "vqvae_toy"]
    assert load("vqvae_toy", build=build).path == folder / "vqvae_toy"
    assert locate("./toy") == Path("toy") and locate("runs/toy") == Path("runs/toy")
    with pytest.raises(FileNotFoundError, match="'vqvae_to'.*'toy', 'vqvae_toy'. Did you mean 'vqvae_toy'"):
        load("vqvae_to", build=build)
    with pytest.raises(FileNotFoundError, match="not a run's directory: it does not exist"):
        load("./toy", build=build)


def test_a_directory_comes_before_a_shipped_checkpoint_of_its_name(folder):
    Path("toy").mkdir()
    assert load("toy", build=build).path == folder / "toy"  # an empty one is none
    Path("toy", "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match="toy is not a run's directory: it has no config.json"):
        load("toy", build=build)


def test_without_shipped_checkpoints_the_place_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CHECKPOINTS", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="no checkpoints are shipped in .*nothing: .*JAXGEN_CHECKPOINTS"):
        load("vqvae_mnist")
    monkeypatch.delenv("JAXGEN_CHECKPOINTS")
    assert runs.shipped_folder() == Path(__file__).parents[2] / "experiments" / "checkpoints"
