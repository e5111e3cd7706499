"""A run whose files were damaged goes on bit for bit, or not at all, with an error that names the file."""

import json
import shutil
from collections import Counter

import jax
import numpy as np
import optax
import pytest

from jaxgen.runs import Checkpointer, open_run
from jaxgen.runs.directory import read_config
from tests.helpers import toy
from tests.helpers.mutations import mutated_bytes, mutated_json, outcome

OPTIMIZER = optax.adam(1e-2)
CONFIG = {"num_steps": 10, "model": {"name": "toy", "widths": [1, 2]}, "seed": 0}
TEMPLATE = toy.make_state(OPTIMIZER)


def write_run(directory):
    run = open_run(directory, CONFIG)
    with Checkpointer(run.checkpoints) as checkpointer:
        for step in (1, 2):
            state = jax.tree.map(lambda leaf, step=step: leaf + step, TEMPLATE)
            checkpointer.save(step, state, {"grain": {"next_index": 5 * step}, "settings": {"seed": 0}})


def resumed(directory):
    """Everything that going on with the run reads."""
    open_run(directory, CONFIG)
    with Checkpointer(directory / "checkpoints") as checkpointer:
        return read_config(directory / "config.json"), checkpointer.restore(TEMPLATE)


def damage(rng, file, other):
    """Changes bytes or a value, empties or deletes the file, or puts that of another checkpoint in its place."""
    content, kind = file.read_bytes(), rng.integers(8)
    if kind == 0:
        file.unlink()
    elif kind == 1:
        file.write_bytes(b"")
    elif kind == 2 and other.is_file() and other != file:
        shutil.copy(other, file)
    elif kind < 5 and file.suffix == ".json":
        file.write_bytes(mutated_json(rng, content))
    else:
        file.write_bytes(mutated_bytes(rng, content))


def mutate_runs(directory, count, seed):
    rng, counts = np.random.default_rng(seed), Counter()
    write_run(directory / "whole")
    wanted = resumed(directory / "whole")
    newest = directory / "whole" / "checkpoints" / "2"
    files = [directory / "whole" / "config.json", *sorted(path for path in newest.rglob("*") if path.is_file())]
    weights = np.array([4.0 if file.suffix == ".json" else 1.0 for file in files])
    for _ in range(count):
        run = directory / "run"
        shutil.copytree(directory / "whole", run)
        relative = files[rng.choice(len(files), p=weights / weights.sum())].relative_to(directory / "whole")
        damage(rng, run / relative, run / str(relative).replace("checkpoints/2", "checkpoints/1"))
        found = outcome((str(run), relative.name), lambda run=run: resumed(run))
        counts["refused" if found is None else "goes on"] += 1
        if found is not None:
            assert found[0] == wanted[0] and found[1].step == wanted[1].step, relative
            assert json.dumps(found[1].data) == json.dumps(wanted[1].data), relative
            toy.assert_same_bits(found[1].state, wanted[1].state)
        shutil.rmtree(run)
    return counts


def test_a_damaged_run_goes_on_bit_for_bit_or_is_refused_by_name(tmp_path):
    counts = mutate_runs(tmp_path, 40, seed=0)
    assert counts["refused"] > 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_2000_damaged_runs_go_on_bit_for_bit_or_are_refused_by_name(tmp_path):
    counts = mutate_runs(tmp_path, 2000, seed=1)
    print("runs", dict(counts))
    assert counts["goes on"] and counts["refused"] > 1000
