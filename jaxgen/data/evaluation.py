"""Batches for evaluation: in order, each example once."""

from collections.abc import Iterator

import numpy as np

from jaxgen.core.checks import check_count
from jaxgen.data.dataset import Batch, Dataset
from jaxgen.data.spec import Spec


class EvaluationBatches(Iterator[Batch]):
    """The iterator that `evaluation_batches` returns; `spec` is the set's."""

    def __init__(self, iterator: Iterator[Batch], spec: Spec):
        self._iterator = iterator
        self.spec = spec

    def __next__(self) -> Batch:
        return next(self._iterator)


def evaluation_batches(
    dataset: Dataset, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> EvaluationBatches:
    """Iterates once over a data set in order; the last batch is filled up and a mask says which examples count.

    A mean over the set is `sum(mask * value) / sum(mask)`, summed over all batches.

    Args:
        dataset: from `load`, `Dataset.from_arrays` or `Dataset.from_spec`.
        batch_size: examples in the global batch, over all processes; may exceed the set.
        process_index: this process, `jax.process_index()`.
        process_count: all processes, `jax.process_count()`. Each gets its block of every batch.

    Returns:
        An iterator over `{entry of the spec: [B, ...], ..., "mask": bool [B], "id": int32 [B]}`; what fills up repeats
        the last example, with mask False and id -1.

    Raises:
        ValueError: for an empty set, a batch that the processes cannot share equally, or a count that is none.
    """
    if len(dataset) == 0:
        raise ValueError(f"dataset {dataset.name}/{dataset.split} is empty: there is nothing to evaluate")
    batch_size, process_count = check_count("batch_size", batch_size), check_count("process_count", process_count)
    process_index = check_count("process_index", process_index, 0)
    if batch_size % process_count:
        raise ValueError(f"batch_size={batch_size} must be a positive multiple of process_count={process_count}")
    if process_index >= process_count:
        raise ValueError(f"process_index={process_index} must lie in [0, process_count={process_count})")
    return EvaluationBatches(_iterate(dataset, batch_size, process_index, batch_size // process_count), dataset.spec)


def _iterate(dataset: Dataset, batch_size: int, process_index: int, local: int) -> Iterator[Batch]:
    for start in range(0, len(dataset), batch_size):
        positions = start + process_index * local + np.arange(local)
        mask = positions < len(dataset)
        batch = dataset.take(np.minimum(positions, len(dataset) - 1))
        yield {**batch, "id": np.where(mask, batch["id"], -1).astype(np.int32), "mask": mask}
