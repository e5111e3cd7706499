"""One HTML file about a trained run, or a gallery of several; or a page on which a person compares blindly.

    python -m experiments.report --workdir=runs/a
    python -m experiments.report --workdir=runs/a,runs/b --output=gallery.html
    python -m experiments.report --checkpoint=diffusion_mnist
    python -m experiments.report --all
    python -m experiments.report --ab --workdir=runs/digits
    python -m experiments.report --ab --workdir=runs/a --against=runs/b --count=50

A report has what the model can give: its configuration and curves, metrics of experiments.evaluate's files (or a few
that are quickly measured), reconstructions, samples by class, the way of some from noise or the order of their tokens,
the codebook, the training images nearest to samples, and the model card where the directory has a README.md. The file
holds its images and needs no network. Of a published checkpoint the numbers are its card's, with their tolerances;
--all makes a gallery of all that are shipped.

--ab asks which of two images is real, the other being a sample or, of an autoencoder, a reconstruction; with
--against which of two runs' images is better. Order and sides follow from --seed. The page says which was which after
the last answer, with Wilson's 95% interval, and saves the answers as JSON.
"""

import time

import numpy as np
from absl import flags

from experiments.common import command_line, reporting
from experiments.common.outputs import check_output
from experiments.common.trained import load_trained
from jaxgen import evaluate, runs, show

# Held-out numbers in a gallery's table: a training's last ones, or a card's.
SUMMARY = ("loss", "psnr", "accuracy", "agreement", "bits_per_token", "bits_per_dim")
THUMBNAIL = 9


def main(*, workdir: list[str], checkpoint: list[str], all_shipped: bool, ab: bool, against: str | None,
         checkpoint_step: int | None, output: str | None, samples: int, count: int, seed: int) -> None:
    workdirs = [path for word in [*workdir, *checkpoint] for path in word.split(",") if path]
    workdirs += map(str, runs.shipped().values()) if all_shipped else []
    if not workdirs:
        raise ValueError("pass --workdir=DIRECTORY of a run, --checkpoint=NAME of a checkpoint that comes with the "
                         "repository, or --all")
    if against and not ab:
        raise ValueError(f"--against={against} is of blind comparisons: add --ab, or give both runs to --workdir")
    if len(workdirs) != 1 and (ab or checkpoint_step is not None):
        raise ValueError(f"{'--ab' if ab else '--checkpoint_step'} is of one run, got --workdir={','.join(workdirs)}")
    run, first = load_trained(workdirs[0], None, checkpoint_step)
    others = [against] if against else workdirs[1:]
    loaded = [run, *map(runs.load, others)]
    default = first / ("comparison.html" if ab else "report.html")
    if len(workdirs) > 1:
        default = first.parent / "gallery.html"
    path = check_output("--output", output, default, kinds=(".html",))
    page = compare(loaded, count, seed) if ab else write_report(loaded, samples=samples, seed=seed)
    path.write_text(page, encoding="utf-8")
    print(f"wrote {path}: {path.stat().st_size / 2**20:.1f} MB, open it in a browser")


def write_report(loaded: list[runs.Run], *, samples: int, seed: int = 0, title: str = "") -> str:
    """The page of one run or of several, with a line for each part as it is made."""
    reports = []
    for number, run in enumerate(loaded, 1):
        shown = reporting.Shown(run, samples, seed)
        name, parts = shown.run.path.resolve().name, []
        for place, (what, make) in enumerate(reporting.PARTS, 1):
            started = time.monotonic()
            part = make(shown)
            done = f"{time.monotonic() - started:.1f} s" if part is not None and part.body else "nothing to show"
            print(f"{name} ({number}/{len(loaded)}): {what} ({place}/{len(reporting.PARTS)}), {done}", flush=True)
            parts += [part] if part is not None else []
        reports.append(show.Report(name, summary(shown), thumbnail(shown), parts))
    return show.report_page(title or (reports[0].title if len(reports) == 1 else f"{len(reports)} runs"), reports)


def summary(shown: reporting.Shown) -> dict:
    """A run's line in the table of a gallery."""
    config, last = shown.run.config, runs.summarize(shown.run.path).metrics
    last |= {f"eval/{one.name}": one.value for one in shown.card}
    numbers = {name: last.get(f"eval/{name}") for name in SUMMARY if f"eval/{name}" in last}
    return {"model": config["model"]["name"], "data": config["data"]["name"], "step": shown.run.step, **numbers}


def thumbnail(shown: reporting.Shown) -> np.ndarray | None:
    """Samples, else reconstructions."""
    if not shown.of_images or not {"sample", "reconstruct"} & set(shown.able):
        return None
    return shown.samples[:THUMBNAIL] if "sample" in shown.able else shown.some_pairs(THUMBNAIL)[1]


def compare(loaded: list[runs.Run], count: int, seed: int) -> str:
    """The page of blind comparisons: real and made images of one run, or those of two runs."""
    shown = [reporting.Shown(run, count, seed) for run in loaded]
    able = [{"sample", "reconstruct"} & set(one.able) if one.of_images else set() for one in shown]
    common = set.intersection(*able)
    if not common or len({one.run.example_shape for one in shown}) > 1:
        raise ValueError("--ab compares images: give a run that samples or reconstructs images, and with --against "
                         f"another one of that kind and size; got {' and '.join(map(repr, loaded))}")
    of_samples = "sample" in common
    # A sample's place would tell it from a real image where the model was trained on shifted ones.
    made = [evaluate.centre(one.samples) if of_samples and one.run.samples_off_centre else
            one.samples if of_samples else one.some_pairs(count)[1] for one in shown]
    if len(shown) == 2:
        names = tuple(str(run.path) for run in loaded)
        question, references = ("Which image is better?", None) if of_samples else (
            "Which image is closer to the one above?", shown[0].some_pairs(count)[0])
        size = min(map(len, made))
        return show.comparison_page("Two models", made[0][:size], made[1][:size], names=names, question=question,
                                    right=False, seed=seed, references=references)
    real = matching(shown[0]) if of_samples else shown[0].some_pairs(count)[0]
    names = ("real", "sample" if of_samples else "reconstruction")
    return show.comparison_page("Real or made", real, made[0], names=names, question="Which image is real?",
                                right=True, seed=seed)


def matching(shown: reporting.Shown) -> np.ndarray:
    """Held-out images drawn at random, one for each sample and of its class, so that classes tell nothing."""
    rng, labels = np.random.default_rng(shown.seed), shown.held_out.labels()
    classes = shown.cond.get("classes")
    if classes is None:
        chosen = rng.permutation(np.resize(rng.permutation(len(shown.held_out)), len(shown.samples)))
    else:
        lists = {c: np.resize(rng.permutation(np.flatnonzero(labels == c)), np.sum(classes == c))
                 for c in np.unique(classes)}
        chosen = np.zeros(len(classes), int)
        for c, places in lists.items():
            chosen[classes == c] = places
    return shown.held_out.take(chosen)[shown.held_out.example]


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_paths("workdir", "The directory of a trained run, or a checkpoint's name; several make a "
                                  "gallery, with commas or given again."),
        flags.DEFINE_list("checkpoint", [], "The name of a checkpoint of experiments/checkpoints, or several."),
        command_line.define_checkpoint_step(),
        flags.DEFINE_bool("ab", False, "A page of blind comparisons instead of a report."),
        command_line.define_path("against", None, "With --ab: the run to compare with, instead of real images."),
        flags.DEFINE_integer("samples", 100, "Samples of a report.", lower_bound=8),
        flags.DEFINE_integer("count", 40, "Pairs of a blind comparison.", lower_bound=1),
        flags.DEFINE_integer("seed", 0, "Seed of samples, and of the order and sides of pairs.", lower_bound=0),
        command_line.define_path("output", None, "The HTML file; report.html or comparison.html in the run by default, "
                                 "gallery.html beside the first of several."),
    ]
    ALL = flags.DEFINE_bool("all", False, "A gallery of all checkpoints of experiments/checkpoints.")
    command_line.run(lambda: main(**command_line.values(*OPTIONS), all_shipped=ALL.value))
