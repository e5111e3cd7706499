"""A run's log: records, tables, image sheets, TensorBoard, Weights & Biases."""

import builtins
import csv
import json
import math
import sys
import types

import numpy as np
import pytest
from PIL import Image

from jaxgen.show import Logger, read_records


def test_records_come_back_as_they_were_written(tmp_path):
    with Logger(tmp_path, tensorboard=False) as logger:
        logger.scalars(1, {"loss": np.float32(0.5), "psnr": np.inf})
        logger.scalars(2, {"loss": np.nan})
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(1, 0.5), (2, None)]
    assert records[0]["psnr"] is None and records[0]["time"] > 1e9


def test_a_resumed_log_drops_later_records_and_a_line_cut_short(tmp_path):
    with Logger(tmp_path, tensorboard=False) as logger:
        for step in range(1, 7):
            logger.scalars(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    with Logger(tmp_path, step=4, tensorboard=False) as logger:
        logger.scalars(5, {"loss": 50})
    assert [(r["step"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")] == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, 50),
    ]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nwhat\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2 is no record of metrics"):
        read_records(tmp_path / "metrics.jsonl")
    assert read_records(tmp_path / "missing.jsonl") == []


def test_images_are_written_as_a_sheet(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (4, 5, 6, 3)).astype(np.float32)
    with Logger(tmp_path, tensorboard=False) as logger:
        path = logger.images(12, "reconstructions", images, columns=2, scale=3)
    assert path == tmp_path / "images" / "reconstructions-00000012.png"
    assert Image.open(path).size == ((2 * 8 + 2) * 3, (2 * 7 + 2) * 3)


def test_tensorboard_reads_the_events_without_the_dropped_steps(tmp_path):
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Logger(tmp_path) as logger:
        for step in range(1, 6):
            logger.scalars(step, {"loss": step})
    with Logger(tmp_path, step=3) as logger:
        logger.scalars(4, {"loss": 40})
        logger.images(4, "samples", np.zeros((1, 2, 2, 1), np.uint8))
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert [e.step for e in events.Images("samples")] == [4]


def test_without_tensorboardx_one_line_says_so(tmp_path, monkeypatch, capsys):
    imported = builtins.__import__

    def fake(name, *args, **kwargs):
        if name == "tensorboardX":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)
    with Logger(tmp_path) as logger:
        logger.scalars(1, {"loss": 1})
    assert capsys.readouterr().out.count("tensorboardX is not installed") == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 1


def rows(directory):
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_as_the_records(directory):
    """Whether metrics.csv says what metrics.jsonl says: empty where a record lacks a value, nan where it is null."""
    records, table = read_records(directory / "metrics.jsonl"), rows(directory)
    assert len(table) == len(records)
    for record, row in zip(records, table, strict=True):
        values = {name: float(text) for name, text in row.items() if text}
        assert {n: None if math.isnan(v) else v for n, v in values.items()} == record
    return True


def test_the_table_has_the_records_and_a_column_for_each_name_that_came(tmp_path):
    with Logger(tmp_path, tensorboard=False) as logger:
        logger.scalars(1, {"loss": 0.1})
        logger.scalars(2, {"loss": np.float32(0.3), "speed": np.inf})
        logger.scalars(2, {"eval/psnr": 20.5})
        logger.scalars(3, {"loss": np.nan})
        assert same_as_the_records(tmp_path)  # while it is written
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == "step,time,loss,speed,eval/psnr"
    assert [row["loss"] for row in rows(tmp_path)] == ["0.1", str(float(np.float32(0.3))), "", "nan"]
    assert same_as_the_records(tmp_path)


def test_a_resumed_table_drops_later_rows_and_a_line_cut_short(tmp_path):
    with Logger(tmp_path, tensorboard=False) as logger:
        for step in range(1, 7):
            logger.scalars(step, {"loss": step})
        logger.scalars(6, {"late": 1})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("7,12")
    with Logger(tmp_path, step=4, tensorboard=False) as logger:
        logger.scalars(5, {"loss": 50})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [
        ("1", "1.0"), ("2", "2.0"), ("3", "3.0"), ("4", "4.0"), ("5", "50.0"),
    ]
    assert "late" not in rows(tmp_path)[0]
    assert same_as_the_records(tmp_path)


def test_names_with_commas_and_quotes_keep_their_columns(tmp_path):
    with Logger(tmp_path, tensorboard=False) as logger:
        logger.scalars(1, {'a, "b"': 1, "c\nd": 2})
        logger.scalars(2, {"e": 3})
    assert same_as_the_records(tmp_path)


class FakeRun:
    """What Weights & Biases was told."""

    def __init__(self, **options):
        self.options, self.logged, self.finished = options, [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module with as much of Weights & Biases as is used; `started` are its runs."""
    module = types.ModuleType("wandb")
    module.started = []
    module.Image = lambda pixels: ("image", pixels.shape)
    module.init = lambda **options: module.started.append(FakeRun(**options)) or module.started[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases_gets_scalars_and_images(tmp_path, wandb):
    with Logger(tmp_path / "digits", tensorboard=False, wandb="tokenizers", config={"seed": 0}) as logger:
        logger.scalars(3, {"loss": np.float32(0.5)})
        logger.images(3, "samples", np.zeros((4, 5, 6, 3), np.uint8), columns=2)
    (run,) = wandb.started
    assert run.logged == [(3, {"loss": 0.5}), (3, {"samples": ("image", (16, 18, 3))})]
    assert run.finished
    assert {name: run.options[name] for name in ("project", "name", "config", "resume")} == {
        "project": "tokenizers", "name": "digits", "config": {"seed": 0}, "resume": "allow"}


def test_a_resumed_run_goes_on_with_its_run_at_weights_and_biases(tmp_path, wandb):
    for directory in ("a", "a", "b"):
        Logger(tmp_path / directory, tensorboard=False, wandb="tokenizers").close()
    first, again, other = (run.options["id"] for run in wandb.started)
    assert first == again != other


def test_weights_and_biases_is_not_used_unless_asked_for(tmp_path, wandb):
    Logger(tmp_path, tensorboard=False).close()
    assert not wandb.started


def test_without_wandb_the_error_says_what_to_install_and_no_record_is_lost(tmp_path, monkeypatch):
    with Logger(tmp_path, tensorboard=False) as logger:
        logger.scalars(5, {"loss": 1})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="pip install wandb"):
        Logger(tmp_path, tensorboard=False, wandb="tokenizers")
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")] == [5]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with Logger(tmp_path / "run") as logger:
        logger.scalars(1, {"loss": 1})
        assert logger.images(1, "samples", np.zeros((1, 2, 2, 1), np.uint8)) is None
    assert not (tmp_path / "run").exists()
