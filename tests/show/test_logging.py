import builtins
import json

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
