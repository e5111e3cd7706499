"""Numbers that can be had again: what was measured of published weights, how, and whether it still comes out.

`reproduce.json` lies beside the weights. Each of its numbers has a name, the value, the tolerance and the evaluation
that gives it; besides these the file holds the SHA-256 of the weights' file and the versions that measured.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.core.json_file import parse_object

REPRODUCE = "reproduce.json"
# {"split", "examples"}, and of samples "samples", "seed", "settings" too, and "judge_held_out", the held-out examples
# that `judge` looks at: all of them where it is missing.
Evaluation = Mapping[str, Any]
Measure = Callable[[Evaluation], Mapping[str, float]]

# Processors and versions of XLA add numbers up in different orders, in float32: means over a set move by 1e-6 to 1e-5
# of themselves. 1e-3 leaves room for fused and low-precision products of accelerators, and is far below what a changed
# weight does. The floor is for terms near zero, such as the bits that say where a diffusion ends.
RELATIVE, FLOOR = 1e-3, 1e-5
# Shares of examples move in steps: an example at the border between two classes falls to either side.
BORDER_EXAMPLES = 2
# A code that hardly occurs is used or not by one vector, and the perplexity follows.
RELATIVE_OF_CODES = 1e-2
# Samples follow from their seed, but a sampler carries a difference in the last bit on through its steps, and a draw of
# a token falls to another one: as much as another seed gives, in the worst case. Four standard deviations of a share of
# N draws. Distances of 200 samples of two seeds differed by 2% in the median, 3% within a class and 14% in the least:
# 1 / sqrt(N), which is 7% there, and half of a least one, which more samples hardly make steadier.
STANDARD_DEVIATIONS = 4
DISTANCES_OF_SAMPLES = ("distance_to_training_median", "distance_within_class", "nearest_distance_ratio", "density")
LEAST_OF_SAMPLES, RELATIVE_OF_LEAST = "distance_to_training_least", 0.5
# Of samples as a set: shares, and the Fréchet distance, whose interval of 95% was 28% of it to either side at N = 500.
SHARES_OF_SAMPLES = ("agreement", "precision", "recall", "coverage", "closer_than_held_out", "authentic")
OF_AS_MANY = ("precision", "recall", "density", "coverage")  # samples as there are held-out images, at most
FRECHET, RELATIVE_OF_FRECHET = ("FID", "FD-"), 0.3


class Number(NamedTuple):
    """A number that was measured."""

    name: str
    value: float
    tolerance: float  # by which another measurement may differ, in the number's own unit
    evaluation: Evaluation


class Reproduced(NamedTuple):
    """A number and what it came to now."""

    number: Number
    found: float

    @property
    def passes(self) -> bool:
        """Whether it lies within the tolerance; a number that is not finite never does."""
        return abs(self.found - self.number.value) <= self.number.tolerance


def tolerance_of(name: str, value: float, evaluation: Evaluation) -> float:
    """How far a number may be off when it is measured again.

    Args:
        name: as evaluators and `judge` call it.
        value: what was measured.
        evaluation: what gave it.

    Example:
        >>> tolerance_of("psnr", 27.0, {"examples": 500})
        0.02701
        >>> round(tolerance_of("agreement", 0.95, {"examples": 500, "samples": 400}), 3)
        0.045
    """
    count = evaluation.get("samples")
    if name in OF_AS_MANY:
        count = min(count, evaluation["examples"])
    if name in SHARES_OF_SAMPLES:  # of the prior of Agresti & Coull, so that 100% leaves room too
        share = (value * count + 2) / (count + 4)
        return STANDARD_DEVIATIONS * math.sqrt(share * (1 - share) / count)
    if name == "classifier_accuracy":
        return BORDER_EXAMPLES / evaluation.get("judge_held_out", evaluation["examples"])
    if name == "accuracy":
        return BORDER_EXAMPLES / evaluation["examples"]
    relative = RELATIVE
    if name.endswith(("perplexity", "used", "entropy_bits_per_pixel")):
        relative = RELATIVE_OF_CODES
    elif name in DISTANCES_OF_SAMPLES:
        relative = 1 / math.sqrt(count)
    elif name.startswith(FRECHET) and "held_out" not in name:
        relative = RELATIVE_OF_FRECHET
    elif name == LEAST_OF_SAMPLES:
        relative = RELATIVE_OF_LEAST
    return FLOOR + relative * abs(value)


def numbers_of(evaluation: Evaluation, values: Mapping[str, float]) -> list[Number]:
    """The numbers that an evaluation gave, with their tolerances.

    Raises:
        ValueError: one is not finite, so that nothing could be compared with it.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, which cannot be reproduced: look at the weights, or draw more "
                             "samples where it is a distance within a class")
    return [Number(name, float(value), tolerance_of(name, value, evaluation), dict(evaluation))
            for name, value in values.items()]


def reproduce(numbers: Iterable[Number], measure: Measure) -> Iterator[Reproduced]:
    """Measures numbers again, each evaluation once.

    Args:
        numbers: of `numbers_of` or `read_reproduction`.
        measure: evaluation -> {name: number}, of the weights at hand.

    Yields:
        A `Reproduced` for each number, in order; one that the evaluation no longer gives is NaN.

    Example:
        >>> numbers = numbers_of({"split": "test", "examples": 500}, {"psnr": 27.0, "mse": 0.002})
        >>> [one.passes for one in reproduce(numbers, lambda evaluation: {"psnr": 27.01, "mse": 0.003})]
        [True, False]
    """
    for evaluation, group in groupby(numbers, key=lambda number: number.evaluation):
        found = measure(evaluation)
        for number in group:
            yield Reproduced(number, float(found.get(number.name, math.nan)))


def write_reproduction(file: Path, numbers: Iterable[Number], *, digest: str, **facts: Any) -> None:
    """Writes `reproduce.json`.

    Args:
        file: where.
        numbers: of `numbers_of`; those of one evaluation stand under it.
        digest: SHA-256 of the weights' file.
        **facts: what else JSON should hold, such as the versions that measured.
    """
    evaluations = [{**evaluation, "numbers": [{"name": one.name, "value": one.value, "tolerance": one.tolerance}
                                              for one in group]}
                   for evaluation, group in groupby(numbers, key=lambda number: number.evaluation)]
    content = {"digest": digest, **facts, "evaluations": evaluations}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_reproduction(file: Path) -> tuple[dict[str, Any], list[Number]]:
    """(all that `reproduce.json` holds, its numbers).

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist, so there are no numbers to compare with: "
                                "jaxgen.runs.publish measures them")
    content = parse_object(file.read_bytes(), file)
    try:
        content["digest"] + ""
        numbers = [Number(one["name"], float(one["value"]), float(one["tolerance"]),
                          {name: value for name, value in evaluation.items() if name != "numbers"})
                   for evaluation in content["evaluations"] for one in evaluation["numbers"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file} is damaged: its digest or its evaluations lack {error}. Fetch it again") from error
    return content, numbers
