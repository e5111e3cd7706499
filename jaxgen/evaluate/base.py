"""What an evaluator is: one contract, whatever it measures.

    evaluator(variables, dataset) -> {name: number}

An evaluator is made for a model and its settings, and compiles once for all calls. It returns Python floats, means over
the examples of the set, each counted once: neither the batch size nor what fills up the last batch changes a number. It
is a pure function of variables and data: what it draws follows from a seed and from the examples' ids. An example whose
measure is not finite makes the mean not finite; nothing is left out silently.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.data import Dataset, Kind, evaluation_batches

BATCH = 100
Batch = Mapping[str, Array]


class Evaluator(Protocol):
    """Measures a model on a data set."""

    def __call__(self, variables: Variables, dataset: Dataset) -> dict[str, float]:
        """The measures by name.

        Raises:
            ValueError: the set is empty, or lacks what is measured, such as labels.
        """


def each_example(
    function: Callable[[Variables, Batch], Mapping[str, Float[Array, "B"]]], *, batch_size: int = BATCH,
    bar: bool = False,
) -> Evaluator:
    """The evaluator of a function that measures each example.

    Args:
        function: `(variables, batch) -> {name: [B]}`; the batch has the numbers of the set, as the set holds them,
            the examples under the name "example", and as models take them under "x".
        batch_size: examples at a time.
        bar: shows progress on a terminal.

    Example:
        >>> import numpy as np
        >>> from jaxgen.data import Dataset
        >>> evaluator = each_example(lambda variables, batch: {"label": batch["label"]}, batch_size=2)
        >>> evaluator(None, Dataset.from_arrays(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 5])))
        {'label': 2.0}
    """
    measure = summed(lambda variables, batch: (function(variables, batch), {}), batch_size=batch_size, bar=bar)

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        totals, _ = measure(variables, dataset)
        return {name: total / len(dataset) for name, total in totals.items()}

    return evaluate


def summed(
    function: Callable[[Variables, Batch], tuple[Mapping[str, Float[Array, "B"]], Any]], *, batch_size: int = BATCH,
    bar: bool = False,
) -> Callable[[Variables, Dataset], tuple[dict[str, float], Any]]:
    """Sums over a set, of `function(variables, batch) -> ({name: [B] per example}, tree of sums over the batch)`.

    `batch["example"]` holds the examples, whatever the set calls them, and `batch["x"]` what models take, as their kind
    says. `batch["mask"]` is False for what fills up the
    last batch; the per-example values are masked here, the tree of sums by the function.
    """

    def run(variables: Variables, batch: Batch, kind: Kind):
        values, sums = function(variables, {**batch, "x": kind.to_model(batch["example"])})
        return {name: jnp.where(batch["mask"], value, 0.0) for name, value in values.items()}, sums

    compiled = jax.jit(run, static_argnums=2, compiler_options=compiler_options())

    def measure(variables: Variables, dataset: Dataset) -> tuple[dict[str, float], Any]:
        totals, all_sums = None, None
        size = min(batch_size, len(dataset))
        batches = evaluation_batches(dataset, size)
        for batch in tqdm(batches, total=math.ceil(len(dataset) / size), unit="batch", disable=None if bar else True):
            numbers = {name: value for name, value in batch.items() if np.asarray(value).dtype.kind in "biuf"}
            numbers["example"] = numbers.pop(dataset.example)
            values, sums = jax.device_get(compiled(variables, numbers, dataset.spec[dataset.example]))
            values = {name: float(np.sum(value, dtype=np.float64)) for name, value in values.items()}
            totals = values if totals is None else {name: totals[name] + value for name, value in values.items()}
            all_sums = sums if all_sums is None else jax.tree.map(np.add, all_sums, sums)
        return totals, all_sums

    return measure
