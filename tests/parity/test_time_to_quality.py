"""The two sides of the study of time to quality start from the same network and train it in the same way."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("diffusers")

from experiments.benchmarks import roofline  # noqa: E402
from experiments.studies import sides, time_to_quality  # noqa: E402

SMALL = {"channels": [32], "batch": 2, "threads": 2, "parts": 4, "held_out": 2, "seconds": 0.0, "blocks": 1,
         "layers": 1, "latent_channels": 4}


def start(task, directory, **changes):
    """(a side by its library's name, the case, the images) of a small network."""
    case = {**roofline.default_sizes(task), **time_to_quality.TASKS[task], **time_to_quality.SHARED, **SMALL,
            "task": task, "directory": str(directory), **changes}
    time_to_quality.write_start(directory, case)
    images = np.load(directory / "data.npz")["train"][:4].astype(np.float32) / 127.5 - 1
    shape = images.shape[1:]
    return {"jaxgen": sides._ours(case, shape), "PyTorch": sides._peer(case, shape)}, case, images


def test_autoencoders_agree_before_and_after_steps_with_weight_decay(tmp_path):
    both, _, images = start("autoencoder", tmp_path, weight_decay=20.0, learning_rate=1e-3, warmup_steps=2)
    first = both["jaxgen"].predict(images)
    np.testing.assert_allclose(both["PyTorch"].predict(images), first, atol=1e-4)
    both["jaxgen"].compile(images[:2])
    for batch in (images[:2], images[2:]):
        for side in both.values():
            side.step(batch)
    last = both["jaxgen"].predict(images)
    assert np.abs(last - first).mean() > 0.1
    np.testing.assert_allclose(both["PyTorch"].predict(images), last, atol=1e-3)


def test_u_nets_agree_at_the_start_and_their_losses_are_the_same_measure(tmp_path):
    both, case, images = start("unet", tmp_path)
    times = np.array([0, 300, 650, 999], np.int32)
    np.testing.assert_allclose(both["PyTorch"].predict(images, times), both["jaxgen"].predict(images, times), atol=1e-4)
    measured = [sides.prepare({**case, "library": name})["evaluate"]() for name in time_to_quality.LIBRARIES]
    assert measured[0] == pytest.approx(measured[1], rel=1e-4)


def test_noise_is_ddpms():
    from diffusers import DDPMScheduler

    np.testing.assert_allclose(sides.ALPHAS_CUMPROD, DDPMScheduler().alphas_cumprod, rtol=1e-4)


def test_each_library_trains_in_turn_in_its_own_process_and_a_second_study_measures_nothing(tmp_path, monkeypatch):
    from experiments.common.subcommands import run_subcommand
    from experiments.study import COMMANDS

    monkeypatch.setattr(time_to_quality, "SHARED", {**time_to_quality.SHARED, "parts": 4, "held_out": 2})
    monkeypatch.setattr(time_to_quality.roofline, "default_sizes", lambda task: {"size": 28, **SMALL, "codes": 8})
    words = ["time_to_quality", "--seconds=8", "--only", "autoencoder", f"--workdir={tmp_path}"]
    rows = run_subcommand("study", "", "experiments.studies", COMMANDS, words)
    assert [row["library"] for row in rows] == ["jaxgen", "PyTorch"] and all(row["steps"] > 0 for row in rows)
    assert rows[0]["compile"] > 0.1 > rows[1]["compile"] and (tmp_path / "time_to_quality.png").stat().st_size > 5000
    found = json.loads((tmp_path / "autoencoder.json").read_text())["numbers"]
    starts = [one["curve"][0] for one in found.values()]
    assert starts[0] == pytest.approx(starts[1], rel=1e-3)
    for one in found.values():
        seconds = [point[0] for point in one["curve"]]
        assert len(seconds) == 5 and seconds == sorted(seconds) and seconds[-1] >= 8
    monkeypatch.setattr(time_to_quality, "Worker", None)  # none is started
    assert run_subcommand("study", "", "experiments.studies", COMMANDS, words) == rows
