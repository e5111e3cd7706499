"""Train a VQ-VAE on real MNIST digits in minutes and a prior on its codes, and show everything on one page.

    python -m experiments.demo

writes runs/demo/index.html, the page of experiments.report for both: reconstructions of held-out digits, the codebook,
curves, metrics, and digits that the prior made by class. Run again, it goes on where it was stopped, or makes the page
again.
"""

import time
from pathlib import Path

from experiments import train_token_prior, train_vqvae
from experiments.common import command_line
from experiments.common.training import run_training
from experiments.report import write_report
from jaxgen import runs, show

SAMPLES = 60
DATA = ("mnist_5k", "mnist", "fashion_mnist")


def main(config, prior_config, workdir: str) -> None:
    if config.model.name != "vqvae" or config.data.name not in DATA:
        raise ValueError(f"the demo's page shows a vqvae on one of {', '.join(DATA)}; for {config.model.name} on "
                         f"{config.data.name} use experiments.train_vqvae, .evaluate and .reconstruct")
    if prior_config.conditions.name != "classes":
        raise ValueError(f"the demo's page has a row for each class, so prior.conditions.name="
                         f"{prior_config.conditions.name!r} does not do: use 'classes'")
    directory, started = Path(workdir), time.monotonic()
    if run_training(train_vqvae.build, config, directory, name="vqvae_mnist").stopped_by:
        return
    seconds = time.monotonic() - started
    prior_config.tokenizer = workdir
    if run_training(train_token_prior.build, prior_config, directory / "prior", name="token_prior_demo").stopped_by:
        return
    prior_seconds = time.monotonic() - started - seconds

    run, prior = runs.load(directory), runs.load(directory / "prior")
    records = show.read_records(directory / "metrics.jsonl")
    last = next(record for record in reversed(records) if record["step"] == run.step and "eval/psnr" in record)
    metrics = {name.removeprefix("eval/"): value for name, value in last.items() if name.startswith("eval/")}
    page = write_report([run, prior], samples=SAMPLES, title=f"jaxgen: VQ-VAE and prior on {config.data.name}")
    (directory / "index.html").write_text(page, encoding="utf-8")

    print(f"VQ-VAE: {run.step} steps, {seconds:.0f} s in this process; prior: {prior.step} steps, "
          f"{prior_seconds:.0f} s. On {len(run.dataset())} held-out images:")
    for name, value in metrics.items():
        print(f"  {name:24} {value:.4g}")
    print(f"open {directory / 'index.html'}")


if __name__ == "__main__":
    CONFIG = command_line.define_config("vqvae_mnist")
    PRIOR = command_line.define_config("token_prior_demo", "prior")
    WORKDIR = command_line.define_path("workdir", "runs/demo", "The run's directory.")
    command_line.run(lambda: main(CONFIG.value, PRIOR.value, WORKDIR.value))
