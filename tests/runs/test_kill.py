"""Checkpoints of a process that is killed while it saves them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.runs import Checkpointer

WRITER = """
import sys
import jax.numpy as jnp
from jaxgen.runs import Checkpointer
checkpointer = Checkpointer(sys.argv[1], keep=2)
step = checkpointer.latest_step() or 0
while True:
    step += 1
    checkpointer.save(step, {str(i): jnp.full((100, 100), step) for i in range(30)}, {"step": step})
    print(step, flush=True)
"""


def kill_while_saving(directory, delays):
    template = {str(i): jax.ShapeDtypeStruct((100, 100), jnp.int32) for i in range(30)}
    before = 0
    for delay in delays:
        command = [sys.executable, "-c", WRITER, str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            first = int(process.stdout.readline())
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        assert first == before + 1
        with Checkpointer(directory) as checkpointer:
            latest = checkpointer.latest_step()
            if latest is None:
                continue
            restored = checkpointer.restore(template)
        assert restored.data == {"step": latest}
        assert all(np.all(np.asarray(leaf) == latest) for leaf in jax.tree.leaves(restored.state))
        assert latest >= before
        before = latest


def test_kill_at_any_moment_of_saving_leaves_the_last_complete_checkpoint(tmp_path):
    kill_while_saving(tmp_path / "c", [0.13, 0.3])


@pytest.mark.slow
def test_kill_at_many_moments_of_saving_leaves_the_last_complete_checkpoint(tmp_path):
    kill_while_saving(tmp_path / "c", np.random.default_rng().uniform(0, 0.6, 10))
