"""Every checkpoint that comes with the repository: its size, its digest, its card and the card's image."""

from pathlib import Path

import pytest

from experiments.publish import LIMIT
from jaxgen import runs
from jaxgen.codec.tables_file import NAME, read_digests
from jaxgen.evaluate import read_reproduction, tolerance_of
from jaxgen.evaluate.samples import HELD_OUT
from jaxgen.runs.model_card import SHEET
from jaxgen.runs.published import FILES
from jaxgen.runs.sheet import LARGEST

FOLDER = Path(__file__).parents[2] / "experiments" / "checkpoints"
ALL_TOGETHER = 40_000_000  # bytes
DIRECTORIES = sorted(path for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []


def size(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def test_they_are_small():
    sizes = {path.name: size(path) for path in DIRECTORIES}
    assert {name: count for name, count in sizes.items() if count > LIMIT} == {}
    assert sum(sizes.values()) <= ALL_TOGETHER


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_each_is_whole_and_its_card_says_what_was_measured(directory):
    run = runs.load(directory)
    content, numbers = read_reproduction(directory / "reproduce.json")
    kinds = runs.fitted_kinds(directory)
    assert {path.name for path in directory.iterdir()} == {*FILES, *([SHEET] if "sheet" in content else []),
                                                           *([NAME] if kinds else [])}
    assert {kind: run.codec(kind).digest for kind in kinds} == (read_digests(directory / NAME) if kinds else {})
    assert not (directory / SHEET).is_file() or (directory / SHEET).stat().st_size <= LARGEST
    assert runs.digest_of_file(directory / "model.safetensors") == content["digest"] and run.step == content["step"]
    assert numbers
    assert {one.name: one.tolerance for one in numbers} == pytest.approx(
        {one.name: tolerance_of(*one[:2], one.evaluation) for one in numbers})
    of_samples = [one for one in content["evaluations"] if "samples" in one]
    assert all(one["judge_held_out"] == min(HELD_OUT, one["examples"]) for one in of_samples)
    assert runs.card_of(run) == (directory / "README.md").read_text(encoding="utf-8")
    assert not [text for text in ((directory / name).read_text() for name in ("README.md", "config.json"))
                if "/home/" in text or "/work/" in text or "/root/" in text]
