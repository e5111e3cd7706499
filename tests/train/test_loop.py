"""The training loop: records, checkpoints, signals, and runs that are resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.runs import Checkpointer
from jaxgen.show import Logger, read_records
from jaxgen.train import NonFiniteError, compile_step, fit, make_mesh, pmap_step, replicate, resume, unreplicate
from tests.helpers import toy

OPTIMIZER = optax.adam(1e-2)


@pytest.fixture(scope="module")
def step():
    return compile_step(toy.make_step(OPTIMIZER, noise=0.1), make_mesh(data=1))


def run(directory, step, num_steps, *, state=None, batches=None, **kwargs):
    """What one start of a training program does."""
    batches = toy.Batches() if batches is None else batches
    state = toy.make_state(OPTIMIZER) if state is None else state
    with Checkpointer(directory / "checkpoints") as checkpointer:
        state, start = resume(state, batches, checkpointer)
        with Logger(directory, step=start, tensorboard=False) as logger:
            kwargs = {"checkpoint_every": 4, "log_every": 1, **kwargs}
            result = fit(
                state, step, batches, num_steps=num_steps, checkpointer=checkpointer, logger=logger, bar=False, **kwargs
            )
    return result, batches


def untimed(directory):
    drop = ("time", "examples_per_second")
    return [{k: v for k, v in r.items() if k not in drop} for r in read_records(directory / "metrics.jsonl")]


@pytest.mark.parametrize("fsdp", [1, 2])
def test_2n_steps_equal_n_steps_and_a_restart_and_n_steps_bit_for_bit(tmp_path, fsdp):
    step = compile_step(toy.make_step(OPTIMIZER, noise=0.1), make_mesh(fsdp=fsdp), min_size=0)
    straight, batches = run(tmp_path / "a", step, 10)
    first, _ = run(tmp_path / "b", step, 5)
    assert first.step == 5
    second, resumed_batches = run(tmp_path / "b", step, 10)
    assert (second.step, second.stopped_by) == (10, None)
    toy.assert_same_bits(second.state, straight.state)
    toy.assert_same_bits(next(resumed_batches), next(batches))
    assert untimed(tmp_path / "b") == untimed(tmp_path / "a")


def test_a_run_under_pmap_saves_and_resumes_what_jit_saves(tmp_path, step):
    mapped = pmap_step(toy.make_step(OPTIMIZER, noise=0.1, axis_name="data"))
    state = replicate(toy.make_state(OPTIMIZER))
    with Checkpointer(tmp_path / "p" / "checkpoints") as checkpointer:
        fit(state, mapped, toy.Batches(), num_steps=3, checkpointer=checkpointer, view=unreplicate, bar=False)
    by_jit, _ = run(tmp_path / "j", step, 3)
    with Checkpointer(tmp_path / "p" / "checkpoints") as checkpointer:
        restored, start = resume(toy.make_state(OPTIMIZER), toy.Batches(), checkpointer)
    assert start == 3
    toy.assert_close(restored, by_jit.state)


def test_a_crash_after_a_checkpoint_ends_in_the_same_state(tmp_path, step):
    straight, _ = run(tmp_path / "a", step, 10)

    def crash(state, step):
        raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError, match="the machine is gone"):
        run(tmp_path / "b", step, 10, evaluate=crash, evaluate_every=6)
    resumed, _ = run(tmp_path / "b", step, 10)
    toy.assert_same_bits(resumed.state, straight.state)
    assert untimed(tmp_path / "b") == untimed(tmp_path / "a")


def test_a_finished_run_does_nothing_more(tmp_path, step):
    first, _ = run(tmp_path, step, 4)
    again, _ = run(tmp_path, step, 4)
    assert again.step == 4
    toy.assert_same_bits(again.state, first.state)


def test_metrics_of_a_step_are_read_after_the_next_one_is_dispatched():
    order = []

    class Value:
        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            order.append(f"read {self.number}")
            return np.asarray(1.0)

    def step(state, batch):
        number = int(state.step) + 1
        order.append(f"dispatch {number}")
        return state._replace(step=state.step + 1), {"loss": Value(number)}

    fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=3, bar=False)
    assert order == ["dispatch 1", "dispatch 2", "read 1", "dispatch 3", "read 2", "read 3"]


def test_evaluations_and_checkpoints_happen_when_due(tmp_path, step):
    seen = []

    def evaluate(state, number):
        seen.append((number, int(state.step)))
        return {"psnr": 20 + number}

    run(tmp_path, step, 10, evaluate=evaluate, evaluate_every=4, log_every=5)
    assert seen == [(4, 4), (8, 8), (10, 10)]
    records = untimed(tmp_path)
    assert [(r["step"], r["eval/psnr"]) for r in records if "eval/psnr" in r] == [(4, 24), (8, 28), (10, 30)]
    assert [r["step"] for r in records if "loss" in r] == [5, 10]
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.steps() == [4, 8, 10]


def test_a_non_finite_loss_names_step_ids_and_checkpoint_and_is_not_saved(tmp_path, step):
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path, step, 12, batches=toy.Batches(poison=6))
    error = caught.value
    ids = list(range(5 * toy.BATCH, 6 * toy.BATCH))
    assert (error.step, error.ids, error.last_good) == (6, ids, 4)
    assert "loss is nan at step 6" in str(error) and "last good checkpoint: step 4" in str(error)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.steps() == [4]
        assert np.all(np.isfinite(checkpointer.restore(toy.make_state(OPTIMIZER)).state.params["decoder"]["bias"]))


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    def step(state, batch):
        broken = jax.tree.map(lambda x: x * jnp.where(state.step == 3, jnp.inf, 1.0), state.params)
        return state._replace(step=state.step + 1, params=broken), {"loss": jnp.float32(1)}

    with pytest.raises(NonFiniteError, match="a parameter is not finite at step 4.*last good checkpoint: none"):
        run(tmp_path, jax.jit(step), 8)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.latest_step() is None


def test_batches_that_end_too_early_are_an_error(tmp_path, step):
    with pytest.raises(ValueError, match="the batches ended after step 5, before num_steps=9"):
        run(tmp_path, step, 9, batches=toy.Batches(length=5))


@pytest.mark.parametrize("name", ["log_every", "checkpoint_every", "evaluate_every"])
def test_intervals_below_one_are_an_error(name, step):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=1, **{name: 0})


def test_resuming_at_an_earlier_step_drops_the_later_checkpoints(tmp_path, step):
    straight, _ = run(tmp_path, step, 12)
    batches = toy.Batches()
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        state, start = resume(toy.make_state(OPTIMIZER), batches, checkpointer, step=4)
        assert (start, batches.position, checkpointer.steps()) == (4, 4, [4])
        again = fit(state, step, batches, num_steps=12, checkpointer=checkpointer, checkpoint_every=4, bar=False)
        assert checkpointer.steps() == [4, 8, 12]
    toy.assert_same_bits(again.state, straight.state)


def test_plain_lines_have_loss_speed_time_left_held_out_numbers_and_the_end(step, capsys):
    fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=4, log_every=2, bar=False,
        evaluate=lambda state, at: {"psnr": 20.5 + at, "used": 1})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("step 2/4  loss ") and "examples/s" in lines[0] and lines[0].endswith(" left")
    assert "step 4/4  held out: psnr 24.5  used 1" in lines and lines[-1] == "finished: 4 steps in 0:00"


def test_the_bar_shows_loss_and_speed(step, capsys):
    pytest.importorskip("tqdm")
    fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=4, log_every=2, bar=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "loss" in shown and "examples/s" in shown


def test_handlers_come_back_after_a_run(step):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=1, bar=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_a_resumed_run_ends_in_the_same_state(tmp_path, number, step, capsys):
    def interrupted(state, batch):
        if int(state.step) == 4:
            os.kill(os.getpid(), number)
        return step(state, batch)

    first, _ = run(tmp_path / "a", interrupted, 9, checkpoint_every=1000)
    assert (first.step, first.stopped_by) == (5, number.name)
    assert f"{number.name} at step 5 of 9: saved; the same command resumes here" in capsys.readouterr().err
    resumed, _ = run(tmp_path / "a", step, 9)
    straight, _ = run(tmp_path / "b", step, 9)
    toy.assert_same_bits(resumed.state, straight.state)


PROGRAM = """
import sys, time
from pathlib import Path
import jax
from tests.helpers import toy
from tests.train.test_loop import OPTIMIZER, run

compiled = jax.jit(toy.make_step(OPTIMIZER, noise=0.1))

def step(state, batch):
    state, metrics = compiled(state, batch)
    print(int(state.step), flush=True)
    time.sleep(float(sys.argv[3]))
    return state, metrics

result, _ = run(Path(sys.argv[1]), step, int(sys.argv[2]), checkpoint_every=1000)
print("end", result.step, result.stopped_by, flush=True)
"""


def start(directory, num_steps, pause):
    command = [sys.executable, "-c", PROGRAM, str(directory), str(num_steps), str(pause)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=root
    )


def test_a_signal_from_outside_saves_and_leaves_and_the_same_command_resumes(tmp_path, step):
    number = signal.SIGTERM
    with start(tmp_path / "a", 1000, 0.02) as process:
        for line in process.stdout:
            if line.strip() == "5":
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    word, stopped, name = out.split("\n")[-2].split()
    assert (word, name) == ("end", number.name)
    assert f"{number.name} at step {stopped} of 1000: saved; the same command resumes here" in err
    assert "Traceback" not in err
    resumed, _ = run(tmp_path / "a", step, int(stopped) + 3)
    straight, _ = run(tmp_path / "b", step, int(stopped) + 3)
    toy.assert_close(resumed.state, straight.state)
    steps = [json.loads(line)["step"] for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, int(stopped) + 4))


def test_a_second_signal_ends_the_process(tmp_path):
    with start(tmp_path, 1000, 2.0) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)  # it finishes its step
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
