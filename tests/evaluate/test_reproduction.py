"""Numbers that are measured again: tolerances next to SciPy's distributions, the file, and what differs."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binom

from jaxgen.evaluate import Number, numbers_of, read_reproduction, reproduce, tolerance_of, write_reproduction

HELD_OUT = {"split": "test", "examples": 500}
DRAWN = {**HELD_OUT, "samples": 300, "seed": 4, "settings": {"steps": 3}}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.97, 1.0])
def test_another_draw_of_as_many_samples_agrees_within_the_tolerance_and_a_worse_model_does_not(share):
    count = DRAWN["samples"]
    # Of all pairs of draws by the same model, the chance that the second lies within the tolerance of the first.
    hits = np.arange(count + 1)
    tolerances = np.array([tolerance_of("agreement", k / count, DRAWN) for k in hits])
    within = [binom.cdf(k + t * count, count, share) - binom.cdf(math.ceil(k - t * count) - 1, count, share)
              for k, t in zip(hits, tolerances)]
    assert binom.pmf(hits, count, share) @ within > 0.99
    expected = tolerance_of("agreement", share, DRAWN)
    assert expected < 0.13 and share - expected < share  # of a share that falls by more than that the chance is small
    assert binom.sf((share - expected) * count, count, max(share - 2 * expected, 0)) < 0.05


def test_tolerances_are_those_of_the_kind_of_number():
    assert tolerance_of("psnr", 30.0, HELD_OUT) == pytest.approx(0.03, rel=1e-3)
    assert tolerance_of("bits_per_dim", -4.0, HELD_OUT) == pytest.approx(0.004, rel=0.01)
    assert 0 < tolerance_of("bits_prior", 0.0, HELD_OUT) < 1e-4  # nothing is as exact as zero
    assert tolerance_of("accuracy", 0.98, HELD_OUT) == tolerance_of("classifier_accuracy", 0.9, DRAWN) == 2 / 500
    assert tolerance_of("top_perplexity", 200.0, HELD_OUT) == pytest.approx(2.0, rel=1e-3)
    few_judged = {**DRAWN, "examples": 10_000, "judge_held_out": 2000}
    assert tolerance_of("classifier_accuracy", 0.9, few_judged) == 2 / 2000  # of what `judge` looked at
    assert tolerance_of("accuracy", 0.9, {"split": "test", "examples": 10_000}) == 2 / 10_000
    # What is measured of samples moves with the draw; what is measured of held-out images next to them does not.
    few, many = ({**DRAWN, "samples": count} for count in (100, 400))
    assert tolerance_of("distance_to_training_median", 5.0, few) == pytest.approx(0.5, rel=1e-3)
    assert tolerance_of("distance_to_training_median", 5.0, many) == pytest.approx(0.25, rel=1e-3)
    assert tolerance_of("held_out_distance_to_training_median", 5.0, DRAWN) == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize("name", ["precision", "recall", "density", "coverage"])
def test_what_is_of_as_many_samples_as_held_out_images_moves_as_that_many_do(name):
    many, as_many, fewer = ({**DRAWN, "examples": 100, "samples": samples} for samples in (400, 100, 50))
    assert tolerance_of(name, 0.8, many) == tolerance_of(name, 0.8, as_many) < tolerance_of(name, 0.8, fewer)
    assert tolerance_of("agreement", 0.8, many) < tolerance_of("agreement", 0.8, as_many)


def numbers():
    return [*numbers_of(HELD_OUT, {"psnr": 27.0, "mse": 0.002}), *numbers_of(DRAWN, {"agreement": 0.9})]


def test_each_evaluation_is_made_once_and_each_number_compared():
    made = []

    def measure(evaluation):
        made.append(evaluation)
        return {"agreement": 0.93} if "samples" in evaluation else {"psnr": 27.04, "mse": 0.002, "new": 1.0}

    result = list(reproduce(numbers(), measure))
    assert made == [HELD_OUT, DRAWN]
    assert [(one.number.name, one.found, one.passes) for one in result] == [
        ("psnr", 27.04, False), ("mse", 0.002, True), ("agreement", 0.93, True)]


@pytest.mark.parametrize("found", [{}, {"psnr": math.nan}, {"psnr": math.inf}, {"psnr": 26.97}, {"psnr": 27.03}])
def test_what_is_missing_not_finite_or_beyond_the_tolerance_differs(found):
    assert not next(reproduce(numbers(), lambda evaluation: found)).passes


def test_a_number_that_is_not_finite_is_not_published():
    with pytest.raises(ValueError, match="distance_within_class is nan, which cannot be reproduced"):
        numbers_of(DRAWN, {"agreement": 1.0, "distance_within_class": math.nan})


def test_the_file_gives_the_numbers_back_and_a_damaged_one_is_named(tmp_path):
    file = tmp_path / "reproduce.json"
    with pytest.raises(FileNotFoundError, match="reproduce.json does not exist"):
        read_reproduction(file)
    write_reproduction(file, numbers(), digest="abc", step=3)
    content, read = read_reproduction(file)
    assert read == numbers() and all(isinstance(one, Number) for one in read)
    assert (content["digest"], content["step"]) == ("abc", 3)
    written = json.loads(file.read_text())
    for name in ("digest", "evaluations"):
        file.write_text(json.dumps({key: value for key, value in written.items() if key != name}))
        with pytest.raises(ValueError, match=f"reproduce.json is damaged: .*{name}"):
            read_reproduction(file)
    for change in ('"value": "x"', '"value": null', '"valeu": 1'):
        file.write_text(json.dumps(written).replace('"value": 27.0', change))
        with pytest.raises(ValueError, match="reproduce.json is damaged"):
            read_reproduction(file)
