"""Train a VQ-VAE on real MNIST digits in minutes and a prior on its codes, and show everything on one page.

    python -m experiments.demo

writes runs/demo/index.html with reconstructions of held-out digits, use of the codebook, loss curves, metrics, and
digits that the prior made by class. Run again, it goes on where it was stopped, or makes the page again.
"""

import base64
import html
import json
import math
import time
from pathlib import Path

import matplotlib
import numpy as np

from experiments import train_token_prior, train_vqvae
from experiments.common import command_line
from experiments.common.training import run_training
from experiments.common.watching import reconstructed_pairs
from jaxgen import data, generate, models, runs, show
from jaxgen.metrics import usage

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SHOWN = 40
PER_CLASS = 6
DATA = ("mnist_5k", "mnist", "fashion_mnist")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>jaxgen: VQ-VAE and prior on {data}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
  figure {{ margin: 1.5rem 0; }} img {{ max-width: 100%; }} .pixels {{ image-rendering: pixelated; width: 100%; }}
  figcaption {{ color: #555; }} .side {{ display: flex; gap: 1rem; flex-wrap: wrap; }} .side > * {{ flex: 1 1 24rem; }}
  table {{ border-collapse: collapse; }} td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; }}
</style>
<h1>VQ-VAE on {data}</h1>
<p>{summary}</p>
<figure><img class="pixels" alt="held-out images and their reconstructions" src="{reconstructions}">
<figcaption>Held-out images; below each row, what the decoder makes of their {num_tokens} codes.</figcaption></figure>
<div class="side">
<table><tr><th>held-out images</th><th></th></tr>{rows}</table>
<figure><img alt="loss curves" src="{loss}"><figcaption>Training loss and held-out PSNR.</figcaption></figure>
</div>
<figure><img alt="use of the codebook" src="{codebook}">
<figcaption>How often each of the {num_codes} codes occurs on the held-out images, most used first.</figcaption>
</figure>
<h2>New images by class</h2>
<p>{prior_summary}</p>
<figure><img class="pixels" alt="generated images, a column for each class" src="{samples}">
<figcaption>Drawn by the prior and decoded, not chosen by hand; a column for each class: {class_names}.</figcaption>
</figure>
</html>
"""


def main(config, prior_config, workdir: str) -> None:
    if config.model.name != "vqvae" or config.data.name not in DATA:
        raise ValueError(f"the demo's page shows a vqvae on one of {', '.join(DATA)}; for {config.model.name} on "
                         f"{config.data.name} use experiments.train_vqvae, .evaluate and .reconstruct")
    if prior_config.conditions.name != "classes":
        raise ValueError(f"the demo's page has a column for each class, so prior.conditions.name="
                         f"{prior_config.conditions.name!r} does not do: use 'classes'")
    directory, started = Path(workdir), time.monotonic()
    if run_training(train_vqvae.build, config, directory, name="vqvae_mnist").stopped_by:
        return
    seconds = time.monotonic() - started
    prior_config.tokenizer = workdir
    if run_training(train_token_prior.build, prior_config, directory / "prior", name="token_prior_demo").stopped_by:
        return
    prior_seconds = time.monotonic() - started - seconds

    run = runs.load(directory)
    test_set = run.dataset()
    records = show.read_records(directory / "metrics.jsonl")
    last = next(record for record in reversed(records) if record["step"] == run.step and "eval/psnr" in record)
    metrics = {name.removeprefix("eval/"): value for name, value in last.items() if name.startswith("eval/")}
    (directory / "evaluation-test.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")

    count = min(SHOWN, len(test_set)) // 2 * 2
    pairs, columns = reconstructed_pairs(run.model)(run.variables, test_set, count)
    show.save_grid(directory / "reconstructions.png", pairs, columns=columns, scale=3)
    tokens = run.model.to_tokens(run.variables, data.to_float(test_set.examples()))
    codes = usage(tokens, run.model.num_codes, levels=tokens.ndim - 3)  # residual levels have codes of their own
    plot_codebook(directory / "codebook.png", np.asarray(codes.histogram).reshape(-1))
    plot_curves(directory / "loss.png", records)
    prior = runs.load(directory / "prior")
    sample_classes(prior, directory / "samples.png")
    write_page(directory, run, metrics, prior)

    print(f"VQ-VAE: {run.step} steps, {seconds:.0f} s in this process; prior: {prior.step} steps, "
          f"{prior_seconds:.0f} s. On {len(test_set)} held-out images:")
    for name, value in metrics.items():
        print(f"  {name:24} {value:.4g}")
    print(f"open {directory / 'index.html'}")


def sample_classes(prior: runs.Run, path: Path) -> None:
    """A sheet of the prior's samples, a column for each class."""
    classes = prior.model.conditions.num_classes
    count = PER_CLASS * classes
    images = prior.sample(count, classes=range(classes), batch=count)
    generate.check_all(generate.finite_images(images), "samples", "nothing was written of them")
    show.save_grid(path, images, columns=classes, scale=3)


def plot_curves(path: Path, records: list[dict]) -> None:
    """Training loss (log scale) and held-out PSNR over steps."""
    figure, left = plt.subplots(figsize=(6, 4), layout="constrained")
    losses = [(r["step"], r["loss"], r["reconstruction"]) for r in records if r.get("loss") is not None]
    if losses:
        steps, loss, reconstruction = zip(*losses, strict=True)
        left.plot(steps, loss, label="loss")
        left.plot(steps, reconstruction, label="reconstruction (MSE)")
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    right = left.twinx()
    evaluated = [(r["step"], r["eval/psnr"]) for r in records if r.get("eval/psnr") is not None]
    if evaluated:
        right.plot(*zip(*evaluated, strict=True), "k.--", label="held-out PSNR")
    right.set(ylabel="PSNR [dB]")
    handles = [line for axis in (left, right) for line in axis.get_lines()]
    figure.legend(handles, [line.get_label() for line in handles], loc="outside lower center", ncols=3)
    save(figure, path)


def plot_codebook(path: Path, histogram: np.ndarray) -> None:
    """How often each code occurs, most used first, with the even share as a line."""
    figure, axis = plt.subplots(figsize=(10, 2.4), layout="constrained")
    axis.bar(np.arange(len(histogram)), np.sort(histogram)[::-1], width=1.0)
    axis.axhline(histogram.mean(), color="k", linewidth=0.8, linestyle=":")
    axis.set(xlabel=f"code ({np.mean(histogram > 0):.1%} in use)", ylabel="times used", xlim=(-1, len(histogram)))
    save(figure, path)


def save(figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_page(directory: Path, run: runs.Run, metrics: dict, prior: runs.Run) -> None:
    """index.html with its images inside, so that the file can be passed on by itself."""
    names = {
        "psnr": "PSNR [dB]", "ssim": "SSIM", "mse": "MSE (pixels in [0, 1])", "perplexity": "codebook perplexity",
        "used": "codes in use", "bits_per_pixel": "bits per pixel",
        "entropy_bits_per_pixel": "bits per pixel at the codes' entropy",
    }
    rows = "".join(
        f"<tr><td>{html.escape(names.get(name, name))}</td><td>{value:.4g}</td></tr>" for name, value in metrics.items()
    )
    images = {
        name: "data:image/png;base64," + base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
        for name in ("reconstructions", "codebook", "loss", "samples")
    }
    shape, count = "x".join(map(str, prior.model.sample_shape)), math.prod(prior.model.sample_shape)
    masked = isinstance(prior.model.model, models.MaskedTokens)
    way = (f"it starts from {count} hidden codes and uncovers them in a few rounds" if masked
           else f"it draws the {count} codes one after the other")
    prior_summary = (f"A transformer learned in {prior.step} steps which codes go together in an image of each class; "
                     f"{way}.")
    summary = (f"Each 28x28 image becomes {shape} indices into {run.model.num_codes} codes and comes back. "
               f"Trained for {run.step} steps.")
    page = PAGE.format(summary=summary, rows=rows, num_codes=run.model.num_codes, num_tokens=count,
                       data=html.escape(run.config["data"]["name"]), prior_summary=prior_summary,
                       class_names=html.escape(", ".join(prior.class_names)), **images)
    (directory / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    CONFIG = command_line.define_config("vqvae_mnist")
    PRIOR = command_line.define_config("token_prior_demo", "prior")
    WORKDIR = command_line.define_path("workdir", "runs/demo", "The run's directory.")
    command_line.run(lambda: main(CONFIG.value, PRIOR.value, WORKDIR.value))
