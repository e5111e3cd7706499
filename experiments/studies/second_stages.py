"""Second stages, each over its first stage: how close to real images, how varied and how fast their samples are.

A masked prior by its own ancestral sampler, by confidence and by MaskGIT's, an autoregressive prior, latent diffusion,
and any other model with classes of the same data, such as pixel diffusion, for comparison; each with the settings of
SETTINGS. The distance is Fréchet's in the features of a classifier, by its name, to the training images, of as many
samples as there are held-out images or fewer, and what the first stage loses is in it: the table names it; precision
and recall are against held-out images; "agreement" is the share that a classifier of scikit-learn, trained on the real
images, reads as the class asked for; "nearest" is the median distance to the nearest training image over that of held-
out images, in the features: below 1 samples are closer to the training set than real images are. Evaluations are of the
network for one sample, guidance included; those of an autoregressive prior are of one token each. Seconds leave
compilation out.

    python -m experiments.study second_stages --classifier=classifier_mnist \\
        --models=token_prior_mnist,token_prior_autoregressive_mnist,latent_diffusion_mnist,diffusion_mnist
"""

import argparse
import functools
from pathlib import Path
from typing import Any

from experiments.common.machine import describe
from experiments.studies import cells
from jaxgen import evaluate, generate, models, runs, show
from jaxgen.core.checks import check_count
from jaxgen.core.digest import digest
from jaxgen.runs.reference import option_of

PLAIN = {"guidance": 1.5, "temperature": 1.0}
SETTINGS = {  # changes of a run's own settings, by what its model does
    "masked": ({}, PLAIN, *({"solver": solver, "steps": 12, **changes} for solver in ("confidence", "maskgit")
                            for changes in ({}, PLAIN))),
    "autoregressive": ({}, PLAIN),
    "diffusion": ({}, {"guidance": 1.5}, {"solver": "dpmpp_2m", "steps": 10}),
}
SHOWN = {"solver": "{}", "steps": "{} steps", "guidance": "guidance {:g}", "temperature": "temperature {:g}"}
COLUMNS = {"model": ("model", ""), "first_stage": ("first stage", ""), "sampler": ("sampler", ""),
           "distance": ("distance", ".4f"), "precision": ("precision", ".2f"), "recall": ("recall", ".2f"),
           "agreement": ("agreement", ".1%"), "nearest": ("nearest", ".2f"), "evaluations": ("evaluations", "d"),
           "milliseconds": ("milliseconds per sample", ".1f")}
LEAST = 12  # samples
MARKERS = "osD^vP*"
table = functools.partial(cells.table, columns=COLUMNS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study second_stages`."""
    cells.add_arguments(parser, "runs/second_stages")
    parser.add_argument("--models", required=True, type=lambda text: text.split(","), help="runs or checkpoints of "
                        "models with classes, with commas between them")
    parser.add_argument("--classifier", required=True, help="the run or checkpoint of a classifier of the same data")
    parser.add_argument("--count", type=int, default=500, help="samples of each row")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table, draws it, and returns its rows."""
    check_count("--count", args.count, LEAST)
    trained = {name: runs.load(name) for name in args.models}
    data = {name: check(name, one) for name, one in trained.items()}
    if len(set(data.values())) > 1:
        raise ValueError(f"--models={','.join(args.models)} were trained on {', '.join(data.values())}: give models of "
                         "the same data, to which their distances are")
    network = runs.feature_network(args.classifier)
    name = evaluate.distance_name(network)
    print(f"{args.count} samples, {name} ({network.digest[:12]}); {describe()}\n{cells.heading(COLUMNS)}")
    rows = []
    for model, one in trained.items():
        for changes in SETTINGS[kind_of(one)]:
            rows.append({"model": model, **row_of(args.workdir, model, one, changes, args.count, network)})
            print(cells.line(rows[-1], COLUMNS), flush=True)
    head = {"samples": args.count, "features": name, "network_digest": network.digest,
            "held_out": rows[0]["held_out"]}
    print(f"distance of as many held-out images: {head['held_out']:.4f}")
    cells.save(args, "second_stages", draw(rows, name))
    cells.record(args, "second_stages", head, rows)
    return rows


def check(name: str, trained: runs.Run) -> str:
    """The name of a run's data; raises ValueError where it has no samples by class."""
    if not getattr(getattr(trained.model, "conditions", None), "num_classes", 0):
        raise ValueError(f"--models={name} is a {trained.config['model']['name']!r} without classes, so that no class "
                         "can be asked for: give runs of priors or of diffusion models with classes")
    return trained.config["data"]["name"]


def kind_of(trained: runs.Run) -> str:
    """A key of SETTINGS."""
    if isinstance(trained.model, models.Denoising):
        return "diffusion"
    return "masked" if isinstance(trained.model.model, models.MaskedTokens) else "autoregressive"


def row_of(
    workdir: Path, name: str, trained: runs.Run, changes: dict[str, Any], count: int, network: evaluate.FeatureNetwork
) -> dict[str, Any]:
    """The columns of a model with changed settings, or what they were when they were asked for before."""
    sampler = trained.sampler(**changes)
    settings, own = dict(sampler.settings), trained.config["data"]

    def measure() -> dict[str, Any]:
        samples, classes, seconds = cells.timed_samples(trained, count, changes)
        generate.check_all(generate.finite_images(samples), "samples", "they cannot be judged")
        images = show.to_uint8(samples)
        judgement = evaluate.judge(images, classes, trained.dataset(own["train_split"]), trained.dataset(),
                                   centre=trained.samples_off_centre)
        found = runs.compare_samples(trained, images, network, measures=("frechet", "neighbours", "authenticity"))
        distance, held_out = evaluate.frechet_of_as_many(found, evaluate.distance_name(network))
        return {"distance": distance.value, "held_out": held_out.value,
                "precision": found["precision"].value, "recall": found["recall"].value,
                "agreement": judgement.values["agreement"], "nearest": found["nearest_distance_ratio"].value,
                "evaluations": sampler.work.evaluations(), "milliseconds": 1e3 * seconds}

    depends_on = {"settings": settings, "count": count, "weights": digest(trained.variables),
                  "network": network.digest}
    shown = [text.format(settings[key]) for key, text in SHOWN.items() if key in settings]
    file = workdir / f"{'-'.join([Path(name).name, *(str(settings[key]) for key in SHOWN if key in settings)])}.json"
    first = option_of(trained.config)  # None: a model of pixels
    return {"first_stage": Path(trained.config[first]).name if first else None, "sampler": ", ".join(shown),
            **cells.once(file, depends_on, measure)}


def draw(rows: list[dict], distance: str) -> Any:
    """A figure: left precision and recall, right the distance over the time of a sample."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, 2)
    names = list(dict.fromkeys(row["model"] for row in rows))
    for name in names:
        own = [row for row in rows if row["model"] == name]
        for marker, row in zip(MARKERS, own):
            look = {"color": f"C{names.index(name)}", "marker": marker, "linestyle": "",
                    "label": f"{name}: {row['sampler']}"}
            panels[0].plot(row["recall"], row["precision"], **look)
            panels[1].plot(row["milliseconds"], row["distance"], **look)
    panels[0].set(xlabel="recall", ylabel="precision")
    panels[1].set(xlabel="milliseconds per sample", ylabel=distance, xscale="log", yscale="log")
    panels[1].axhline(rows[0]["held_out"], color="grey", linestyle=":", label="held-out images")
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.legend(*panels[1].get_legend_handles_labels(), fontsize=6, loc="outside lower center", ncols=3)
    return figure
