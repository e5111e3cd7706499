"""Traces of a training's steps: which steps they hold, and that none is left open."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxgen.train import NonFiniteError, Profile, fit, profile_window
from tests.helpers import toy

OPTIMIZER = optax.adam(1e-2)


@pytest.fixture
def events(monkeypatch):
    """What happened, in order: "start", "stop" and the steps' numbers as they are dispatched."""
    order = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda directory: order.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: order.append("stop"))
    return order


def train(events, profile, num_steps, *, start=0, poison=None):
    def step(state, batch):
        number = int(state.step) + 1
        events.append(number)

        class Loss:
            def __array__(self, dtype=None, copy=None):
                events.append(f"read {number}")
                return np.asarray(np.nan if number == poison else 0.5)

        return state._replace(step=state.step + 1), {"loss": Loss()}

    fit(toy.state_at(start, OPTIMIZER)._replace(step=np.int32(start)), step, toy.Batches(), num_steps=num_steps,
        profile=profile, bar=False)


def traced(events):
    """The steps that were dispatched while a trace was taken, none of which was left open."""
    assert events.count("start") == events.count("stop") <= 1
    if "start" not in events:
        return []
    inside = events[events.index("start") + 1:events.index("stop")]
    return [event for event in inside if isinstance(event, int)]


@pytest.mark.parametrize("first, last, start, num_steps, expected", [
    (3, 5, 0, 8, [3, 4, 5]),
    (1, 1, 0, 8, [1]),
    (3, 5, 3, 8, [4, 5]),  # resumed within the window
    (3, 5, 5, 8, []),  # resumed behind it
    (6, 20, 0, 8, [6, 7, 8]),  # the run ends within it
    (8, 8, 0, 8, [8]),
])
def test_the_steps_of_the_window_are_traced(events, tmp_path, first, last, start, num_steps, expected):
    train(events, Profile(tmp_path / "profile", first, last), num_steps, start=start)
    assert traced(events) == expected


def test_steps_before_the_window_are_done_before_it_and_its_own_before_its_end(events, tmp_path):
    train(events, Profile(tmp_path, 3, 4), 6)
    start, stop = events.index("start"), events.index("stop")
    assert events.index("read 2") < start < events.index("read 3") < events.index("read 4") < stop < events.index(5)


def test_an_error_within_the_window_ends_the_trace(events, tmp_path):
    with pytest.raises(NonFiniteError):
        train(events, Profile(tmp_path, 2, 7), 8, poison=3)
    assert traced(events)[0] == 2


def test_where_the_trace_is_said_with_its_steps(events, tmp_path, capsys):
    train(events, Profile(tmp_path / "profile", 6, 20), 8)
    assert f"profile of steps 6 to 8: {tmp_path / 'profile'}" in capsys.readouterr().err


def test_jax_writes_the_trace_into_the_directory(tmp_path):
    profile = Profile(tmp_path / "profile", 2, 3)
    step = jax.jit(toy.make_step(OPTIMIZER))
    fit(toy.make_state(OPTIMIZER), step, toy.Batches(), num_steps=4, profile=profile, bar=False)
    assert [path.suffix for path in Path(tmp_path / "profile").rglob("*.xplane.pb")] == [".pb"]
    assert not profile.active


@pytest.mark.parametrize("text", ["", "10", "10:", ":15", "10-15", "15:10", "0:5", "-1:5", "1.5:2", "a:b", "1:2:3"])
def test_a_window_in_another_form_is_an_error_with_an_example(text):
    with pytest.raises(ValueError, match="must be FIRST:LAST.*10:15 traces the steps 10 to 15"):
        profile_window(text, 100)


def test_a_window_behind_the_last_step_is_an_error():
    assert profile_window("100:120", 100) == (100, 120)
    with pytest.raises(ValueError, match="begins behind the last step, num_steps=100"):
        profile_window("101:120", 100)


@pytest.mark.parametrize("first, last", [(0, 3), (4, 3)])
def test_a_profile_of_no_steps_is_an_error(tmp_path, first, last):
    with pytest.raises(ValueError, match=f"1 <= first <= last, got first={first}, last={last}"):
        Profile(tmp_path, first, last)
