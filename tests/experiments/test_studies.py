"""The studies, at sizes that answer nothing: tables and plots, what is done again and what is not, and the mistakes."""

import functools
import itertools
import json
import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import results as documents
from experiments.common import results
from experiments.common.subcommands import run_subcommand
from experiments.studies import cells, equal_bits, samplers, second_stages, time_to_quality
from experiments.study import COMMANDS
from jaxgen import data, evaluate, models, runs
from jaxgen.losses import ConvParams, LpipsParams
from tests.experiments import forked
from tests.experiments.conftest import FEW_DIGITS, SMALL_VQVAE


def study(*words):
    return run_subcommand("study", "", "experiments.studies", COMMANDS, list(words))


@pytest.fixture
def trainings(scripts, monkeypatch):
    """The commands that studies start, which are run in forked processes."""
    started = []

    def run(command, *, stdout, **_):
        started.append(command)
        status, out, err = forked.run(command[2].removeprefix("experiments."), command[3:], scripts.environment,
                                      scripts.directory)
        stdout.write(out + err)
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(cells, "subprocess", SimpleNamespace(run=run, STDOUT=subprocess.STDOUT))
    return started


@pytest.fixture(scope="module")
def classifier(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "classifier"
    scripts.run("train_classifier", f"--workdir={workdir}", "--config=classifier_mnist:smoke", FEW_DIGITS)
    return workdir


@pytest.fixture
def few(monkeypatch):
    """Data sets of 60 images of all classes, which take no time to compare with."""
    load = runs.Run.dataset

    @functools.cache
    def some(self, split=None):
        whole = load(self, split)
        arrays = {name: values for name, values in whole.spread(60).items() if name in whole.spec}
        return data.Dataset.from_spec(whole.spec, arrays, name=whole.name, split=whole.split)

    monkeypatch.setattr(runs.Run, "dataset", some)


def with_classes(directory, description, sampling):
    """A run with random weights, as `runs.load` gives it."""
    dataset = data.load("mnist_5k", "test")
    description = {**description, "conditions": {"name": "classes", "count": 10}}
    model = models.build(**description)
    variables = jax.jit(lambda key: model.init(key, dataset.example_shape))(jax.random.key(0))
    config = {"model": description, "sampling": sampling, "configuration": directory, "spec": dataset.spec.to_json(),
              "example_shape": dataset.example_shape, "data": {
                  "name": "mnist_5k", "train_split": "train", "test_split": "test", "image_size": 0, "crop": 0,
                  "options": {}}}
    return runs.Run(directory, config, model, variables, 1)


LEVEL = {"channels": 4, "multipliers": (1,), "num_res_blocks": 1, "norm": "none", "patch_size": 4}
CODES = {"name": "vqvae", "latent_channels": 2, "example_channels": 1, "encoder": LEVEL, "decoder": LEVEL,
         "quantizer": {"name": "vq", "num_codes": 8}}
TINY = {"features": 8, "depth": 1, "heads": 2}
PRIOR = {"name": "token_prior", "tokenizer": CODES, "shape": (7, 7), "network": TINY}
DIFFUSION = {"name": "diffusion", "shape": (28, 28, 1), "network": {"name": "dit", "patch_size": 14, **TINY}}


def small_vgg():
    sizes = [3, *[2] * 13]
    convs = tuple(ConvParams(np.ones((3, 3, *pair), np.float32), np.zeros(2, np.float32))
                  for pair in itertools.pairwise(sizes))
    return LpipsParams(convs, (np.ones(2, np.float32),) * 5)


def test_quantizers_are_trained_once_and_measured_again_where_the_classifier_is_another(
        trainings, classifier, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    monkeypatch.setattr(cells, "GALLERY", tmp_path / "gallery")
    monkeypatch.setattr(equal_bits, "STEPS", 1)
    words = ["equal_bits", "--config=vqvae_mnist:smoke", "--steps=2", "--seeds=1", "--only", "FSQ",
             f"--workdir={tmp_path}", "--option",
             *(word.removeprefix("--config.") for word in (FEW_DIGITS, *SMALL_VQVAE))]
    (row,) = study(*words, "--rounds=2", "--record")
    assert row["quantizer"] == "FSQ" and row["psnr"][0] > 0 and row["step"] > 0 and "agreement" not in row
    said = capsys.readouterr().out
    assert "| FSQ |" in said and "LPIPS |" not in said
    assert (tmp_path / "gallery" / "study_equal_bits_vqvae_mnist.png").is_file()
    (record,) = json.loads((tmp_path / "results.json").read_text())
    assert record["values"]["rows"][0]["step"] == row["step"] and "`python -m" in documents.study("study_equal_bits")
    (run,) = tmp_path.glob("*FSQ-0")
    config = runs.load(run).config
    assert config["model"]["encoder"]["patch_size"] == 4 and config["quantizer"] == equal_bits.QUANTIZERS["FSQ"]
    monkeypatch.setattr(equal_bits, "lpips_for", lambda config, net: small_vgg())
    (again,) = study(*words, "--rounds=0", f"--classifier={classifier}", "--lpips=vgg")
    assert len(trainings) == 1 and again["psnr"] == row["psnr"] and again["distance"][0] > 0 and "step" not in again
    assert again["lpips"][0] > 0 and "| LPIPS |" in capsys.readouterr().out
    for changed, message in (("--steps=1", "holds a training of 2 steps: give --steps=2"),
                             ("--config=vqvae_mnist:smoke", "the study asks for .*: give the same options")):
        with pytest.raises(ValueError, match=message):
            study(*(words[:-1] if "smoke" in changed else words), changed, "--rounds=0")


@pytest.mark.parametrize(("words", "message"), [
    (["equal_bits", "--steps=0"], "--steps must be an integer of at least 1, got 0"),
    (["equal_bits", "--option", "model.encoder.channel=16"], "model.encoder.channel.*channels"),
    (["equal_bits", "--option", "seed"], "--option seed has no value: write KEY=VALUE"),
    (["equal_bits", "--config=diffusion_mnist"], "describes a 'diffusion'"),
    (["equal_bits", "--config=vqvae_mnist", "--lpips=alex"], "--lpips=alex: leave it out. .*these are 28x28x1"),
    (["samplers", "--model=a", "--classifier=b", "--count=1"], "--count must be an integer of at least 2, got 1"),
    (["samplers", "--model=a", "--classifier=b", "--evaluations", "5", "1"], "--evaluations must .* 2, got 1"),
    (["second_stages", "--models=a", "--classifier=b", "--count=3"], "--count must be an integer of at least 12"),
    (["second_stages", "--models=vqvae_mnist", "--classifier=classifier_mnist"],
     "--models=vqvae_mnist is a 'vqvae' without classes"),
    (["equal_bits", "--classifier=vqvae_mnist"], "--classifier=vqvae_mnist is a 'vqvae': give the run of a classifier"),
])
def test_mistakes_are_named(words, message):
    with pytest.raises(ValueError, match=message):
        study(*words)


def test_samplers_are_compared_once_for_the_same_weights(classifier, few, tmp_path, monkeypatch, capsys):
    trained = with_classes("digits", DIFFUSION, {"solver": "euler", "steps": 2})
    network = runs.feature_network(str(classifier))
    monkeypatch.setattr(samplers.runs, "load", lambda name: trained)
    monkeypatch.setattr(samplers.runs, "feature_network", lambda name: network)
    monkeypatch.setattr(samplers, "SCALES", (1.0, 2.0))
    monkeypatch.setattr(samplers, "INTERVALS", ((0.3, 5.0),))
    monkeypatch.setattr(samplers, "BEST", {"solver": "euler", "steps": 2})
    words = ["samplers", "--model=digits", "--classifier=c", "--count=12", "--evaluations", "3", "4", "--only", "euler",
             "heun", f"--workdir={tmp_path}"]
    rows = study(*words)
    taken = [(row["solver"], row["asked"], row["steps"], row["evaluations"]) for row in rows[:4]]
    assert taken == [("euler", 3, 3, 3), ("euler", 4, 4, 4), ("heun", 3, 2, 3), ("heun", 4, 2, 3)]
    assert all(row["distance"] > 0 and row["seconds_per_sample"] > 0 for row in rows)
    assert (tmp_path / "samplers.png").stat().st_size > 5000
    lines = samplers.table(rows).splitlines()
    assert lines[0] == "| solver | 3 evaluations | 4 evaluations |" and lines[2].startswith("| euler | ")
    assert [line.endswith(" (3) |") for line in lines[2:4]] == [False, True]  # heun's, of 4
    assert lines[5].startswith("| guidance |") and "evaluations" in lines[5] and len(lines) == 10
    measured, lost = [], np.full((12, 28, 28, 1), np.nan)
    monkeypatch.setattr(cells, "timed_samples", lambda *arguments: measured.append(1) or (lost, None, 1.0))
    assert study(*words) == rows and not measured
    trained.variables = trained.variables._replace(params={"other": np.ones(1)})
    assert [row["distance"] for row in study(*words)] == [None] * 7 and len(measured) > 4


def test_solvers_take_as_many_steps_as_the_evaluations_allow():
    trained = with_classes("digits", DIFFUSION, {})
    asked = list(samplers.of_solvers(trained, ["rk4", "pndm"], [2, 3, 8]))
    assert [(count, settings["solver"], settings["steps"]) for _, count, settings in asked] == [
        (8, "rk4", 2), (3, "pndm", 2), (8, "pndm", 7)]
    taken = [trained.sampler(**settings).work.evaluations() for *_, settings in asked]
    assert taken == [5, 3, 8]  # four of the only step of rk4 but that into 0; pndm's second step takes two


def test_no_setting_of_guidance_is_measured_twice():
    trained = with_classes("digits", DIFFUSION, {})
    guided = [(row.get("guidance_low", 0.0) < sigmas) & (sigmas <= row.get("guidance_high", np.inf)) for *_, row
              in samplers.of_guidance() for sigmas in [np.asarray(trained.sampler(**row).parts.sigmas)[:-1]]]
    scales = [row["guidance"] for *_, row in samplers.of_guidance()]
    assert len({(scale, tuple(at)) for scale, at in zip(scales, guided)}) == len(scales)


def test_second_stages_are_measured_as_evaluate_does(classifier, few, tmp_path, monkeypatch):
    found = {
        "masked": with_classes("masked", PRIOR, {"solver": "ancestral", "steps": 2, "guidance": 2.0}),
        "next": with_classes("next", {**PRIOR, "kind": "autoregressive"}, {"guidance": 1.0}),
    }
    found["masked"].config["tokenizer"] = "runs/codes"
    network = runs.feature_network(str(classifier))
    monkeypatch.setattr(second_stages.runs, "load", found.__getitem__)
    monkeypatch.setattr(second_stages.runs, "feature_network", lambda name: network)
    monkeypatch.setattr(second_stages, "SETTINGS", {"masked": ({}, {"solver": "maskgit", "steps": 3, "guidance": 1.0}),
                                                    "autoregressive": ({},)})
    words = ["second_stages", "--models=masked,next", "--classifier=c", "--count=20", f"--workdir={tmp_path}"]
    rows = study(*words)
    assert [(row["model"], row["first_stage"], row["sampler"], row["evaluations"]) for row in rows] == [
        ("masked", "codes", "ancestral, 2 steps, guidance 2, temperature 1", 4),
        ("masked", "codes", "maskgit, 3 steps, guidance 1, temperature 1", 3),
        ("next", None, "guidance 1, temperature 1", 49)]
    images, judged = found["masked"].judge(20, batch=10)
    wanted = runs.compare_samples(found["masked"], images, network, measures=("frechet", "neighbours", "authenticity"))
    name = evaluate.distance_name(network)
    keys = {"distance": name, "precision": "precision", "recall": "recall", "nearest": "nearest_distance_ratio",
            "held_out": f"{name}_held_out_of_20"}
    assert {key: rows[0][key] for key in keys} == pytest.approx({key: wanted[of].value for key, of in keys.items()})
    assert rows[0]["agreement"] == judged.values["agreement"] and rows[0]["milliseconds"] > 0
    assert (tmp_path / "second_stages.png").stat().st_size > 5000
    assert second_stages.table(rows).count("\n| masked | codes | ") == 2
    monkeypatch.setattr(cells, "timed_samples", None)  # nothing is sampled again
    assert study(*words) == rows
    with pytest.raises(TypeError):
        study(*words[:-2], "--count=21", words[-1])


@pytest.mark.parametrize(("name", "centred"), [("mnist_5k", True), ("fashion_mnist", False)])
def test_of_shifted_images_only_digits_are_centred(tmp_path, monkeypatch, name, centred):
    trained, seen = with_classes("a", DIFFUSION, {}), []
    trained.config["data"] |= {"name": name, "crop": 2}
    numbers = ("precision", "recall", "nearest_distance_ratio", "FD-c_held_out_of_12", "FD-c")
    monkeypatch.setattr(runs.Run, "dataset", lambda self, split=None: None)
    monkeypatch.setattr(cells, "timed_samples", lambda *_: (np.zeros((12, 28, 28, 1)), None, 1.0))
    monkeypatch.setattr(runs, "compare_samples", lambda *_, **__: {key: SimpleNamespace(value=0.0) for key in numbers})
    monkeypatch.setattr(evaluate, "distance_name", lambda network: "FD-c")
    monkeypatch.setattr(evaluate, "judge", lambda *_, centre: seen.append(centre) or SimpleNamespace(
        values={"agreement": 1.0}))
    second_stages.row_of(tmp_path, "a", trained, {}, 12, SimpleNamespace(digest=""))
    assert seen == [centred]


def test_models_of_other_data_are_refused(monkeypatch):
    one, other = (with_classes(name, DIFFUSION, {}) for name in "ab")
    other.config["data"]["name"] = "fashion_mnist"
    monkeypatch.setattr(second_stages.runs, "load", {"a": one, "b": other}.__getitem__)
    with pytest.raises(ValueError, match="were trained on mnist_5k, fashion_mnist: give models of the same data"):
        study("second_stages", "--models=a,b", "--classifier=c")


def test_the_time_to_a_quality_is_read_off_the_curve():
    curve = [[0.0, 10.0], [4.0, 12.0], [8.0, 11.0], [10.0, 15.0]]
    assert time_to_quality.seconds_to(curve, 11.0) == 2.0 and time_to_quality.seconds_to(curve, 10.0) == 0.0
    assert time_to_quality.seconds_to(curve, 13.0) == 9.0 and time_to_quality.seconds_to(curve, 16.0) is None
    assert time_to_quality.seconds_to([[0.0, 1.0], [2.0, 0.5]], 0.75) == 1.0  # of a loss
    row = time_to_quality.row_of({"task": "unet", "quality": "loss", "parts": 4}, "jaxgen", {
        "curve": [[t, 1 / (1 + t)] for t in range(5)], "steps": 7, "compile": 0.5}, 0.75)
    assert [row[key] for key in ("at_25", "at_50", "at_100", "reaches")] == pytest.approx([1 / 2, 1 / 3, 1 / 5, 0.5])


def test_without_pytorch_the_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(time_to_quality.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs torch and diffusers: pip install torch"):
        study("time_to_quality")


def test_batches_hold_each_image_once_in_an_epoch():
    from experiments.studies import sides

    batches = sides.batches_of(np.arange(10), 3, seed=0)
    epochs = [np.concatenate([next(batches) for _ in range(3)]) for _ in range(2)]
    assert all(len(set(epoch)) == 9 for epoch in epochs) and epochs[0].tolist() != epochs[1].tolist()


def test_a_study_that_was_not_run_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    assert documents.study("study_samplers") == "Not run yet.\n"
