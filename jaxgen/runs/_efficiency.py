"""How much time, computation, memory and energy a run's samples and reconstructions take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.cost import flops
from jaxgen.evaluate import energy_counters, peak_memory, program_cost
from jaxgen.evaluate.efficiency import ROUNDS
from jaxgen.evaluate.energy import Counter
from jaxgen.runs.run import Run, abilities, reconstructor


def efficiency(
    run: Run, *, batch: int = 64, rounds: int = ROUNDS, **settings: Any
) -> tuple[dict[str, Any], list[str]]:
    """What one sample and one reconstruction of a run take, as far as its model has them.

    Args:
        run: of `load`.
        batch: samples, or examples, at a time, on which time and memory depend.
        rounds: timed batches of each.
        **settings: changes of the run's sampling: solver, steps, guidance, ...

    Returns:
        (numbers, in words what could not be measured). Of a sample: "seconds_per_sample" and so on, see
        `jaxgen.evaluate.program_cost`; "evaluations_per_sample" of its network, those that guidance adds included;
        "flops_per_evaluation" and "flops_per_sample", all its evaluations and what is decoded once, see
        `jaxgen.core.cost.flops`. Of a reconstruction: "seconds_per_reconstruction", "flops_per_reconstruction" and so
        on. Of the process: see `jaxgen.evaluate.peak_memory`. "energy_of" has the names of the counters whose joules
        are in the numbers, where there are any.

    Raises:
        ValueError: the model has neither, or a setting does not apply.
    """
    able, (counters, lacking) = abilities(run.model), energy_counters()
    if not {"sample", "reconstruct"} & set(able):
        raise ValueError(f"the run in {run.path} trained a {run.config['model']['name']!r}, which has neither samples "
                         "nor reconstructions whose cost could be measured: give a run of another model")
    result: dict[str, Any] = {"energy_of": [counter.name for counter in counters]} if counters else {}
    if "sample" in able or settings:  # whose error says that there are no samples
        result |= _of_samples(run, batch, rounds, counters, settings)
    if "reconstruct" in able:
        result |= _of_reconstructions(run, batch, rounds, counters)
    return result | peak_memory(), lacking


def _of_samples(
    run: Run, batch: int, rounds: int, counters: list[Counter], settings: dict[str, Any]
) -> dict[str, float]:
    sampler, variables, ids = run.sampler(**settings), run.variables, jnp.arange(batch)
    cond = jax.tree.map(jnp.asarray, run.model.conditions.parse(batch, names=run.class_names))
    arguments = variables, jax.random.key(0), ids, cond
    evaluations = sampler.work.evaluations()
    encoded, _ = jax.eval_shape(sampler.work.once, variables, cond, ids)
    each, once = flops(sampler.work.network, variables, encoded, ids), flops(sampler.work.once, variables, cond, ids)
    result = program_cost(lambda: sampler.draw(*arguments), lambda: sampler.work.lower(*arguments), of="sample",
                          batch=batch, rounds=rounds, counters=counters)
    return result | {"evaluations_per_sample": evaluations, "flops_per_evaluation": each / batch,
                     "flops_per_sample": (evaluations * each + once) / batch}


def _of_reconstructions(run: Run, batch: int, rounds: int, counters: list[Counter]) -> dict[str, float]:
    kind = run.spec[run.spec.example]
    x = jnp.asarray(kind.to_model(np.zeros((batch, *kind.shape), kind.dtype)))
    program = run.reconstruction_program
    result = program_cost(lambda: program(run.variables, x), lambda: program.lower(run.variables, x),
                          of="reconstruction", batch=batch, rounds=rounds, counters=counters)
    return result | {"flops_per_reconstruction": flops(reconstructor(run.model), run.variables, x) / batch}
