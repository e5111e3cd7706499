"""Checkpoints as a user publishes, uses and measures them again."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from experiments import reproduce
from jaxgen import runs
from jaxgen.evaluate import read_reproduction
from jaxgen.runs.weights_file import digest_of_file, write_weights
from jaxgen.show import text
from tests.show.pages import check

PLACE = "JAXGEN_CHECKPOINTS"


@pytest.fixture(scope="module")
def shipped(scripts, codes, tmp_path_factory):
    """A VQ-VAE, and a prior that was trained over it by its name; both published."""
    base = tmp_path_factory.mktemp("published")
    place = {PLACE: str(base / "checkpoints")}
    out = scripts.run("publish", f"--workdir={codes}", "--name=codes", **place)
    assert "next: write what it is for" in out
    scripts.run("train_token_prior", f"--workdir={base / 'prior'}", "--config=token_prior_mnist:smoke",
                "--config.tokenizer=codes", **place)
    scripts.run("publish", f"--workdir={base / 'prior'}", "--name=prior", "--samples=40", "--steps=2",
                "--split=test[:20]", **place)
    return base / "checkpoints"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_what_is_published_is_the_run_to_half_precision(codes, shipped):
    run, published = runs.load(codes), runs.load(shipped / "codes")
    images = run.dataset().spread(8)["image"] / np.float32(127.5) - 1
    difference = np.abs(run.reconstruct(images) - published.reconstruct(images))
    assert 0 < difference.max() < 0.05 and np.median(difference) < 1e-3
    assert published.step == run.step and published.config["model"] == run.config["model"]
    _, numbers = read_reproduction(shipped / "codes" / "reproduce.json")
    assert {one.name: one.value for one in numbers} == pytest.approx(published.evaluate(), rel=1e-6)


def test_a_prior_names_its_first_stage_and_has_all_abilities(shipped):
    run, stage = runs.load(shipped / "prior"), runs.load(shipped / "codes")
    assert not [name for name in load_file(shipped / "prior" / "model.safetensors") if name.startswith("state")]
    model, variables = run.model.first_stage(run.variables)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 28, 28, 1)).astype(np.float32)
    np.testing.assert_array_equal(model.to_tokens(variables, images), stage.model.to_tokens(stage.variables, images))
    assert run.sample(2, classes=[3], steps=2).shape == run.reconstruct(images).shape == (2, 28, 28, 1)


def test_a_checkpoint_samples_as_it_was_measured(shipped):
    assert runs.load(shipped / "prior").config["sampling"]["steps"] == 2
    content, _ = read_reproduction(shipped / "prior" / "reproduce.json")
    of_data, of_samples = content["evaluations"]
    assert (of_data["split"], of_data["examples"]) == ("test[:20]", 20)
    assert (of_samples["split"], of_samples["examples"], of_samples["settings"]) == ("test", 500, {})


def test_scripts_take_a_checkpoint_by_name_and_leave_its_directory_alone(scripts, shipped, tmp_path):
    place, directory = {PLACE: str(shipped)}, shipped / "prior"
    before = contents(directory)
    out = scripts.run("sample", "--checkpoint=prior", "--count=20", cwd=tmp_path, **place)
    sheet = tmp_path / "samples" / "prior" / "samples-step00000004-seed0.png"
    assert "wrote samples/prior/samples-step" in out and Image.open(sheet).size == (10 * 60 + 4, 2 * 60 + 4)
    scripts.run("edit", "inpaint", "--checkpoint=prior", "--count=2", "--steps=2", cwd=tmp_path, **place)
    scripts.run("reconstruct", f"--workdir={directory}", "--count=2", cwd=tmp_path, **place)
    scripts.run("evaluate", "--checkpoint=prior", "--split=test[:5]", f"--output={tmp_path / 'a.json'}", cwd=tmp_path,
                **place)
    assert contents(directory) == before
    assert {path.name.partition("-")[0] for path in (tmp_path / "samples" / "prior").iterdir()} == {
        "samples", "edit", "reconstructions"}
    out = scripts.run("sample", "--checkpoint=pryor", fails=True, cwd=tmp_path, **place)
    assert "Did you mean 'prior'?" in out
    for options in ([], ["--checkpoint=prior", "--workdir=a"]):
        assert "pass --workdir=DIRECTORY of a run, or --checkpoint=NAME" in scripts.run("sample", *options, fails=True)


def test_all_numbers_come_out_again(scripts, shipped):
    place = {PLACE: str(shipped)}
    lines = scripts.run("reproduce", "--all", **place).splitlines()
    names = [line.split()[0] for line in lines if line.endswith("pass")]
    assert {"digest", "psnr", "bits_per_token", "agreement", "distance_within_class"} <= set(names)
    assert names.count("psnr") == 2 and not any("differs" in line for line in lines)
    assert len([line for line in lines if re.fullmatch(r"measured in \d+ s", line)]) == 2
    assert "name a checkpoint, or pass --all" in scripts.run("reproduce", fails=True, **place)


def test_a_damaged_checkpoint_fails_and_the_others_are_measured_all_the_same(scripts, shipped, tmp_path):
    for name in ("damaged", "whole"):  # in the order of --all
        shutil.copytree(shipped / "codes", tmp_path / name)
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    error = scripts.run("reproduce", "--all", fails=True, **{PLACE: str(tmp_path)})
    first, last = error.strip().splitlines()[0], error.strip().splitlines()[-1]
    assert first.startswith(f"error: {tmp_path / 'damaged'}: ") and "model.safetensors" in first
    assert last == f"not as published: {tmp_path / 'damaged'}"


def test_a_changed_weight_fails_by_its_digest_and_by_its_numbers(scripts, shipped, tmp_path, capsys):
    shutil.copytree(shipped / "codes", tmp_path / "codes")
    file = tmp_path / "codes" / "model.safetensors"
    run = runs.load(tmp_path / "codes")
    kernel = run.variables.params["decoder"]["conv_out"]["kernel"]
    run.variables.params["decoder"]["conv_out"]["kernel"] = kernel.at[(0,) * kernel.ndim].add(1.0)
    write_weights(file, run.variables, step=run.step)  # a whole file, of other weights
    assert not reproduce.reproduced(str(tmp_path / "codes"))
    result = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert (result["digest"], result["psnr"], result["bits_per_pixel"]) == ("differs", "differs", "pass")
    content = (tmp_path / "codes" / "reproduce.json").read_text()
    before, after = digest_of_file(shipped / "codes" / "model.safetensors"), digest_of_file(file)
    (tmp_path / "codes" / "reproduce.json").write_text(content.replace(before, after))
    error = scripts.run("reproduce", f"--workdir={tmp_path / 'codes'}", fails=True)
    assert error.strip() == f"not as published: {tmp_path / 'codes'}"

    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 1
    file.write_bytes(bytes(damaged))
    error = scripts.run("reproduce", f"--workdir={tmp_path / 'codes'}", fails=True)
    assert "model.safetensors is damaged: its contents are not those that were written" in error


def test_the_cards_image_shows_what_was_measured(shipped):
    sheet = np.asarray(Image.open(shipped / "prior" / "samples.png"))[::2, ::2]  # each pixel stands twice
    images, _ = runs.load(shipped / "prior").judge(40, steps=2)
    for i in (0, 7, 13):
        top, left = 2 + i // 10 * 30, 2 + i % 10 * 30
        np.testing.assert_array_equal(sheet[top : top + 28, left : left + 28], images[i, :, :, 0])
    assert "](samples.png)" in (shipped / "prior" / "README.md").read_text()
    assert "below each row of 10" in (shipped / "codes" / "README.md").read_text()
    assert (shipped / "codes" / "samples.png").is_file()


def test_a_report_has_the_cards_numbers(scripts, shipped, tmp_path):
    scripts.run("report", "--all", "--samples=10", cwd=tmp_path, **{PLACE: str(shipped)})
    html = (tmp_path / "samples" / "gallery.html").read_text()
    ids = {attributes.get("id") for _, attributes in check(html)}
    assert {"run1-metrics", "run2-metrics", "run2-samples"} <= ids
    for name in ("codes", "prior"):
        for one in read_reproduction(shipped / name / "reproduce.json")[1]:
            row = f"<td>{one.name}</td><td>{text(one.value)}</td><td>{one.tolerance:.2g}</td>"
            assert row in html, (name, row)


def test_a_name_is_no_path(scripts, codes):
    error = scripts.run("publish", f"--workdir={codes}", "--name=../codes", fails=True)
    assert "must be a bare name" in error
