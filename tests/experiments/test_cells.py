"""What studies share: means, tables, batches, and what is measured once."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.studies import cells
from jaxgen import generate


def test_means_and_stds_are_numpys():
    values = [3.0, 4.5, 9.25]
    assert cells.mean_and_std(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert cells.mean_and_std([2.0]) == (2.0, 0.0)


def test_a_table_has_a_line_for_each_row_and_leaves_empty_what_was_not_measured():
    columns = {"name": ("quantizer", ""), "psnr": ("PSNR", ".1f"), "steps": ("steps", ",d"), "used": ("in use", ".0%")}
    rows = [{"name": "VQ", "psnr": [20.04, 0.26], "steps": 1500, "used": (1.0, 0.0)},
            {"name": "FSQ", "psnr": math.nan, "steps": None}]
    assert cells.table(rows, columns).splitlines() == [
        "| quantizer | PSNR | steps | in use |", "|---|---|---|---|", "| VQ | 20.0 ± 0.3 | 1,500 | 100% |",
        "| FSQ |  |  |  |"]


def test_the_use_of_codes_is_a_mean_over_quantizers():
    values = {"eval/used": 0.5, "eval/level1/used": 1.0, "eval/psnr": 20.0, "used": 0.0}
    assert cells.used_of(values, "eval/") == 0.75 and cells.used_of({"used": 0.25}) == 0.25


def test_the_time_of_steps_is_that_of_the_examples_and_leaves_out_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "read_config", lambda file: {"data": {"batch_size": 8}})
    records = [{"step": 10, "examples_per_second": 40.0}, {"step": 10, "eval/psnr": 20.0},
               {"step": 30, "examples_per_second": 80.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert cells.seconds_of_steps(tmp_path) == pytest.approx(10 * 8 / 40 + 20 * 8 / 80)


def test_a_measure_is_taken_once_for_what_it_depends_on(tmp_path):
    calls = iter(range(9))
    for depends_on, wanted in (({"steps": 1}, 0), ({"steps": 1}, 0), ({"steps": 2}, 1), ({"steps": 1}, 2)):
        assert cells.once(tmp_path / "a" / "b.json", depends_on, lambda: {"number": next(calls)}) == {"number": wanted}


def test_the_time_of_a_sample_leaves_out_the_first_batch(monkeypatch):
    clock = iter([0.0, 90.0, 92.0, 96.0])  # a start, and the ends of three batches of which one compiles
    monkeypatch.setattr(cells.time, "perf_counter", lambda: next(clock))
    parse = SimpleNamespace(parse=lambda count, **_: {"classes": np.arange(count)})
    draw = SimpleNamespace(draw=lambda variables, key, ids, cond: np.stack([ids, cond["classes"]], 1))
    trained = SimpleNamespace(model=SimpleNamespace(conditions=parse), sampler=lambda: draw, variables={},
                              class_names=None)
    monkeypatch.setattr(generate.sampler, "BATCH", 10)
    samples, classes, seconds = cells.timed_samples(trained, 25, {})
    assert samples.tolist() == [[i, i] for i in range(25)] and len(classes) == 25 and seconds == 3 / 10
