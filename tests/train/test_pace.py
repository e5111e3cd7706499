"""Speed and time left, on a clock and a device that are simulated: only steps count as steps."""

import numpy as np
import optax
import pytest

from jaxgen.train import fit
from jaxgen.train.pace import Pace, times_due
from tests.helpers import toy

OPTIMIZER = optax.adam(1e-2)
COMPILATION, STEP, EVALUATION, CHECKPOINT, VIEW = 100.0, 2.0, 30.0, 20.0, 5.0  # seconds


class Simulation:
    """A host that dispatches steps, a device that runs them one after the other, and the clock of both."""

    directory = None

    def __init__(self):
        self.now, self.free, self.evaluations = 0.0, 0.0, 0
        self.records = []

    def clock(self):
        return self.now

    def step(self, state, batch):
        if not self.free:
            self.now += COMPILATION
        done = self.free = max(self.now, self.free) + STEP
        simulation = self

        class Loss:
            def __array__(self, dtype=None, copy=None):
                simulation.now = max(simulation.now, done)
                return np.asarray(0.5)

        return state._replace(step=state.step + 1), {"loss": Loss()}

    def evaluate(self, state, step):
        self.now += EVALUATION + COMPILATION * (self.evaluations == 0)
        self.evaluations += 1
        return {"psnr": 1.0}

    def view(self, state):
        self.now += VIEW
        return state

    def scalars(self, step, metrics):
        if "loss" in metrics:
            self.records.append((step, self.now, metrics))

    def flush(self):
        pass

    def save(self, step, state, data=None):
        self.now += CHECKPOINT
        return True

    def latest_step(self):
        return None

    def wait(self):
        pass


def simulate(num_steps=24, log_every=1):
    simulation = Simulation()
    fit(toy.make_state(OPTIMIZER), simulation.step, toy.Batches(), num_steps=num_steps,
        log_every=log_every, evaluate=simulation.evaluate, evaluate_every=4, checkpointer=simulation,
        checkpoint_every=6, logger=simulation, view=simulation.view, clock=simulation.clock, bar=False)
    return simulation


@pytest.mark.parametrize("log_every", [1, 3, 4, 5])
def test_the_speed_is_that_of_steps_without_compilation_evaluations_and_checkpoints(log_every):
    speeds = [metrics.get("examples_per_second") for step, _, metrics in simulate(log_every=log_every).records
              if step > 1]
    assert speeds == pytest.approx([toy.BATCH / STEP] * len(speeds))


def test_the_first_step_which_compiles_has_no_speed(capsys):
    step, _, metrics = simulate().records[0]
    assert step == 1 and "examples_per_second" not in metrics
    line = capsys.readouterr().err.splitlines()[0]
    assert "examples/s" not in line and "left" not in line


def test_the_time_left_is_what_the_rest_takes(capsys):
    simulation = simulate()
    lines = [line for line in capsys.readouterr().err.splitlines() if "  loss " in line]
    for (step, now, _), line in zip(simulation.records, lines, strict=True):
        if step > 8:  # one evaluation without its compilation is known from then on, and one checkpoint
            minutes, seconds = line.split()[-2].split(":")
            assert int(minutes) * 60 + int(seconds) == simulation.now - now, line


def test_what_has_not_happened_yet_is_not_in_the_time_left(capsys):
    simulate()
    assert "step 3/24  loss 0.5  16 examples/s  0:42 left" in capsys.readouterr().err  # 21 steps


def test_a_pace_knows_nothing_before_the_second_step():
    pace = Pace(clock=lambda: 1.0)
    pace.step(8)
    assert pace.examples_per_second() is None and pace.left(10, evaluation=1) is None


@pytest.mark.parametrize("total", [1, 7, 12])
@pytest.mark.parametrize("every", [None, 1, 4, 30])
def test_how_often_something_is_due_is_a_count_of_steps(total, every):
    for step in range(total + 1):
        expected = sum(t == total or (every is not None and t % every == 0) for t in range(step + 1, total + 1))
        assert times_due(step, total, every) == expected
