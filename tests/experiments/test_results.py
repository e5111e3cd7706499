"""Records of results: one for each configuration and command; the tables made of them and of checkpoints' cards."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import results as tables
from experiments.common import results


def record(monkeypatch, file, configuration, **values):
    monkeypatch.setattr(results, "FILE", file)
    monkeypatch.setattr("sys.argv", ["evaluate", "--workdir=runs/a", "--record"])
    results.record(SimpleNamespace(config={"configuration": configuration}), {"step": 3}, values)
    return json.loads(file.read_text())


def test_a_record_of_the_same_command_replaces_the_numbers_and_keeps_the_words(monkeypatch, tmp_path):
    file = tmp_path / "results.json"
    first = record(monkeypatch, file, "mine", psnr=20.0, ssim=0.5)
    first[0]["values"]["training"] = "3 minutes"
    file.write_text(json.dumps(first))
    (again,) = record(monkeypatch, file, "mine", psnr=21.0)
    assert again["values"] == {"training": "3 minutes", "psnr": 21.0}
    assert again["command"] == "python -m experiments.evaluate --workdir=runs/a" and again["step"] == 3


def test_a_table_has_a_row_for_each_configuration_also_ones_own(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "CHECKPOINTS", tmp_path / "nothing is shipped")
    for name in ("mine", "vqvae_mnist"):
        record(monkeypatch, tmp_path / "results.json", name, psnr=20.04, used=1.0)
    texts = tables.documents()
    rows = [line for line in texts[tables.ROOT / "README.md"].splitlines() if "20.0 " in line]
    assert [row.split(" | ")[0] for row in rows] == ["| `mine`", "| `vqvae_mnist`"]
    assert "Result: PSNR 20.0 dB, 100% of the codes in use." in texts[
        tables.ROOT / "experiments" / "configs" / "vqvae_mnist.py"]


def test_what_a_sample_costs_is_a_table_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    values = {"seconds_per_sample": 0.0123, "flops_per_sample": 4.56e9, "evaluations_per_sample": 36,
              "peak_process_bytes": 2**30}
    (tmp_path / "results.json").write_text(json.dumps([
        {"configuration": "mine", "command": "a", "batch": 16, "values": values},
        {"configuration": "other", "command": "b", "values": {"mse": 20.0}}]))
    text = tables.documents()[tables.ROOT / "experiments" / "README.md"]
    assert cells(text, "mine") == [["16", "12.3", "36", "4.56", "", "1074"]] and cells(text, "other") == []


@pytest.fixture
def documents(monkeypatch, tmp_path):
    """A copy of all that tables are made of and stand in."""
    for pattern in ("README.md", "experiments/README.md", "experiments/configs/*.py", "experiments/results.json",
                    "experiments/checkpoints/*/*.json"):
        for file in tables.ROOT.glob(pattern):
            copy = tmp_path / file.relative_to(tables.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FILE", tmp_path / "experiments" / "results.json")
    monkeypatch.setattr(results, "CHECKPOINTS", tmp_path / "experiments" / "checkpoints")
    return tmp_path


def cells(text, configuration):
    """The rows of a configuration, without its name."""
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()
            if line.startswith(f"| `{configuration}` |")]


def test_of_what_is_shipped_the_tables_have_the_cards_numbers(documents):
    file = documents / "experiments" / "checkpoints" / "diffusion_mnist" / "reproduce.json"
    content = json.loads(file.read_text())
    own = {one["name"]: one["value"] for evaluation in content["evaluations"] for one in evaluation["numbers"]}
    samples = content["evaluations"][1]
    rows = cells((documents / "experiments" / "README.md").read_text(), "diffusion_mnist")
    (row,) = (row for row in rows if len(row) == len(tables.SAMPLES))
    assert row[0] == f"{samples['samples']}; {samples['examples']} of `{samples['split']}`"
    assert row[1] == f"{own['agreement']:.1%} ({own['classifier_accuracy']:.1%})"
    distance = "FD-classifier-mnist_5k"
    assert row[2] == f"{distance} {own[distance]:.3f} ({own[f'{distance}_held_out_of_500']:.3f})"
    assert row[3:5] == [f"{own['precision']:.2f}", f"{own['recall']:.2f}"]
    assert row[5:7] == [f"{own['nearest_distance_ratio']:.2f}", f"{own['bits_per_dim']:.2f}"]
    assert row[7] == f"{content['step']:,} steps, {content['training']['seconds'] / 60:.0f} minutes"
    card = json.loads((file.parent.parent / "kl_mnist" / "reproduce.json").read_text())
    psnr = next(one["value"] for one in card["evaluations"][0]["numbers"] if one["name"] == "psnr")
    # 7x7 places of four numbers: two levels below 28x28 of the configuration's latents.
    assert cells((documents / "README.md").read_text(), "kl_mnist")[0][:2] == ["49 x 4 numbers", f"{psnr:.1f}"]


@pytest.mark.parametrize(("file", "before", "after", "wrong"), [
    ("experiments/checkpoints/vqvae_mnist/reproduce.json", r'("psnr",\s+"value": )\d', r"\g<1>9", "README.md"),
    ("experiments/checkpoints/diffusion_mnist/reproduce.json", r'("step": \d+)', r"\g<1>1", "diffusion_mnist.py"),
    ("README.md", r"PSNR \[dB\]", "PSNR", "README.md"),
    ("experiments/configs/kl_mnist.py", "Result: PSNR", "Result: about PSNR", "kl_mnist.py"),
])
def test_a_changed_card_or_document_is_noticed(documents, file, before, after, wrong):
    with pytest.raises(SystemExit) as ended:
        tables.main(["--check"])
    assert ended.value.code == 0
    path = Path(documents, file)
    text, count = re.subn(before, after, path.read_text())
    assert count == 1
    path.write_text(text)
    with pytest.raises(SystemExit, match=wrong):
        tables.main(["--check"])


def test_bits_that_were_measured_on_other_images_than_samples_say_so(documents):
    content = json.loads((documents / "experiments/checkpoints/token_prior_fashion_mnist/reproduce.json").read_text())
    of_tokens, of_samples = content["evaluations"]
    assert (of_tokens["split"], of_samples["split"]) == ("test[:500]", "test")
    bits = next(one["value"] for one in of_tokens["numbers"] if one["name"] == "bits_per_token")
    values = tables.merged()
    assert tables.show(values["token_prior_fashion_mnist"], "bits") == f"{bits:.2f} (500 of `test[:500]`)"
    assert "(" not in tables.show(values["token_prior_mnist"], "bits")


def test_numbers_of_a_classifier_stand_in_no_header_but_where_the_records_put_them():
    for file in (tables.ROOT / "experiments" / "configs").glob("*.py"):
        header = re.sub(r"^Result: .*?(?=^[A-Z][a-z]+:|^\"\"\")", "", file.read_text(), count=1, flags=re.S | re.M)
        assert not re.search(r"reads? [\d.]+%", header), file.name


def test_the_recipe_of_latent_diffusion_trains_over_what_the_shipped_one_was_trained_over():
    recipes = (tables.ROOT / "experiments" / "README.md").read_text()
    first = re.search(r"train_latent_diffusion --workdir=\S+ --config.autoencoder=(\S+)", recipes)[1]
    shipped = json.loads((results.CHECKPOINTS / "latent_diffusion_mnist" / "config.json").read_text())
    assert f"--workdir={first} --config={shipped['autoencoder']}\n" in recipes


def test_two_cards_of_one_configuration_are_refused(documents):
    shipped = documents / "experiments" / "checkpoints"
    shutil.copytree(shipped / "vqvae_mnist", shipped / "vqvae_mnist_again")
    with pytest.raises(ValueError, match="checkpoints/vqvae_mnist and .*/vqvae_mnist_again are both of the config"):
        tables.documents()


def test_the_frechet_distance_is_of_as_many_samples_as_held_out_images():
    more = {"FD-x": 0.5, "FD-x_of_500": 0.75, "FD-x_held_out_of_500": 0.25, "FD-x_infinity": 0.125}
    assert tables.show(more, "frechet") == "FD-x 0.750 (0.250)"
    assert tables.show({key: value for key, value in more.items() if key != "FD-x_of_500"}, "frechet") == (
        "FD-x 0.500 (0.250)")
    assert tables.show({"FD-x_infinity": 0.125}, "frechet") == ""


def test_a_row_says_what_the_classifier_looked_at_where_that_is_less():
    of = {"split": "test", "examples": 10_000, "samples": 500}
    assert tables.show({**of, "judge_held_out": 2000}, "compared") == "500; 10,000 of `test` (2,000 for the classifier)"
    assert tables.show({**of, "judge_held_out": 10_000}, "compared") == tables.show(of, "compared") == (
        "500; 10,000 of `test`")
