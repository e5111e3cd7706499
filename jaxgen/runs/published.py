"""Published checkpoints: the weights of a run in a small directory, with what was measured of them.

    NAME/config.json         the run's configuration
    NAME/model.safetensors   the weights that are used, in half precision (`jaxgen.runs.weights_file`)
    NAME/reproduce.json      each number, its tolerance, and how it was measured (`jaxgen.evaluate.reproduction`)
    NAME/README.md           the model card (`jaxgen.runs.model_card`)
    NAME/samples.png         the image of the card (`jaxgen.runs.sheet`), of models that make images

A model over a first stage holds that one's weights in its own state, so that a directory is complete by itself; where
they are those of a published checkpoint beside it or of a shipped one, they stay there (`jaxgen.runs.reference`).
"""

import json
import shutil
import tempfile
import time
import warnings
from calendar import timegm
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax

from jaxgen.core.json_file import sealed
from jaxgen.data import Image
from jaxgen.evaluate import Number, numbers_of, read_reproduction, write_reproduction
from jaxgen.evaluate.reproduction import REPRODUCE
from jaxgen.evaluate.samples import HELD_OUT
from jaxgen.runs.directory import environment, expand
from jaxgen.runs.measures import NETWORKS, feature_network, measure
from jaxgen.runs.model_card import SHEET, by_hand_of, model_card
from jaxgen.runs.reference import DIGEST, NAME, find_reference, first_stage_of, option_of, stranded_by
from jaxgen.runs.run import Run, load
from jaxgen.runs.sheet import draw_sheet
from jaxgen.runs.shipped import shipped
from jaxgen.runs.weights_file import WEIGHTS, digest_of_file, is_published, write_weights
from jaxgen.show import read_records

CARD, CONFIG = "README.md", "config.json"
FILES = (CONFIG, WEIGHTS, REPRODUCE, CARD)  # and of models that make images a sheet
SAMPLES = 500  # that a card's numbers are of
KEPT = ("python", "packages", "devices", "git_commit")  # of the environment that measured


def publish(
    run: Run, directory: str | Path, *, dtype: str = "float16", evaluations: Sequence[Mapping[str, Any]] | None = None,
    first_stage: str | None = None, max_bytes: int | None = None, bar: bool = False,
) -> Run:
    """Writes a published checkpoint of a run and measures what its card says, of the weights as they are written.

    Names of files and folders in the configuration lose their place, which is nobody else's, but for the data's.

    Args:
        run: of `load`.
        directory: new, empty, or of a published checkpoint, which is replaced but for the hand-written part of its
            card; its name becomes the checkpoint's.
        dtype: "float16", "bfloat16" or "float32", of what gradients trained; everything else is kept exactly.
        evaluations: see `jaxgen.runs.measure`; None for `default_evaluations(run)`, () for none.
        first_stage: the published checkpoint whose weights, beside the directory or shipped, stand for those of the
            run's first stage; they must be these, rounded as that one's are. None for the one that the configuration
            names, if its weights are the same, else the run's own; "" for the run's own.
        max_bytes: what the weights' file may have.
        bar: shows progress on a terminal.

    Returns:
        The published checkpoint, read back.

    Raises:
        FileNotFoundError: `first_stage` is not there.
        ValueError: the directory holds something else, the weights are too large or not finite, or a measured number
            is not, or `first_stage` has other weights; the directory is then as it was.

    Warns:
        UserWarning: published checkpoints beside this one name other weights of its name as their first stage's.
    """
    path = expand(directory).absolute()
    if path.exists() and not is_published(path) and (path.is_file() or any(path.iterdir())):
        raise ValueError(f"directory {path} holds something else than a published checkpoint: give a new one")
    config, option = _without_places(run.config), option_of(run.config)
    asked = (Path(run.config[option]).name if option else "") if first_stage is None else first_stage
    reference = find_reference(run.model, run.variables, asked, path, rounded=bool(first_stage)) if asked else None
    own = {} if reference is None else {"elsewhere": reference.places, NAME: reference.name, DIGEST: reference.digest}
    if reference and option:
        config[option] = reference.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        made = Path(folder)
        (made / CONFIG).write_text(json.dumps(sealed(config), indent=2) + "\n", encoding="utf-8")
        write_weights(made / WEIGHTS, run.variables, step=run.step, dtype=dtype, **own)
        size = (made / WEIGHTS).stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise ValueError(f"{WEIGHTS} would have {size:,} bytes, and max_bytes is {max_bytes:,}: publish a smaller "
                             "model, or allow more")
        written = load(made, build=lambda **_: run.model)
        evaluations = default_evaluations(run) if evaluations is None else evaluations
        numbers = [number for evaluation in evaluations
                   for number in numbers_of(evaluation, measure(written, evaluation, bar=bar))]
        now, of_samples = environment(), next((one for one in evaluations if "samples" in one), {})
        sheet = draw_sheet(written, made / SHEET, seed=of_samples.get("seed", 0), settings=of_samples.get("settings"))
        facts = {"environment": {name: now[name] for name in KEPT}, "training": _training(run),
                 **({"sheet": sheet} if sheet else {})}
        write_reproduction(made / REPRODUCE, numbers, digest=digest_of_file(made / WEIGHTS), step=run.step, **facts)
        before = path / CARD
        by_hand = by_hand_of(before.read_text(encoding="utf-8")) if before.is_file() else None
        (made / CARD).write_text(_card(path.name, written, numbers, facts, by_hand), encoding="utf-8")
        path.mkdir(exist_ok=True)
        (path / SHEET).unlink(missing_ok=True)
        for file in sorted(made.iterdir()):
            shutil.move(file, path / file.name)
    stranded = stranded_by(path)
    if stranded:
        warnings.warn(f"{path} no longer has the weights that these name as their first stage's: "
                      f"{', '.join(stranded)}. Publish them again over this one, or with first_stage='' to hold their "
                      "own", stacklevel=2)
    return load(path, build=lambda **_: run.model)


def default_evaluations(
    run: Run, *, split: str | None = None, samples: int = SAMPLES, seed: int = 0, features: str | None = None
) -> list[dict[str, Any]]:
    """Everything that `Run.evaluate` measures of held-out data; of images by class what `Run.judge` says too.

    Args:
        run: of `load`.
        split: of the data that `Run.evaluate` measures; None for all held-out data.
        samples: how many are judged, next to all held-out data; 0 leaves that out.
        seed: of the samples' noise.
        features: whose features compare the samples as a set, see `jaxgen.runs.feature_network`; None leaves it out.
    """
    held_out, measured = run.dataset(), run.dataset(split)
    of_data = {"split": measured.split, "examples": len(measured)}
    classes = getattr(getattr(run.model, "conditions", None), "num_classes", 0)
    if not samples or not classes or not isinstance(held_out.spec[held_out.example], Image):
        return [of_data]
    of_samples = {"split": held_out.split, "examples": len(held_out), "judge_held_out": min(len(held_out), HELD_OUT),
                  "samples": samples, "seed": seed, "settings": {}}
    if features:
        if features not in (*NETWORKS, *shipped()):
            raise ValueError(f"features={features} must be a network that others have too: {', '.join(NETWORKS)} or a "
                             f"shipped checkpoint, {', '.join(shipped()) or 'of which there are none'}")
        of_samples |= {"features": features, "features_digest": feature_network(features).digest}
    return [of_data, of_samples]


def card_of(published: Run) -> str:
    """The card as the other files have it, with the part that was written by hand."""
    content, numbers = read_reproduction(published.path / REPRODUCE)
    by_hand = by_hand_of((published.path / CARD).read_text(encoding="utf-8"))
    return _card(published.path.name, published, numbers, content, by_hand)


def _card(name: str, run: Run, numbers: Sequence[Number], facts: Mapping[str, Any], by_hand: str | None) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.variables.params))
    return model_card(name, run.config, numbers, step=run.step, parameters=parameters,
                      training=facts.get("training", {}), sheet=facts.get("sheet"),
                      first_stage=first_stage_of(run.path), by_hand=by_hand)


def _training(run: Run) -> dict[str, Any]:
    """How long the run took, pauses left out, and on what; {} where its records are gone."""
    starts = run.path / "environment.json"
    if is_published(run.path):
        return read_reproduction(run.path / REPRODUCE)[0].get("training", {})
    if not starts.is_file():
        return {}
    begun = json.loads(starts.read_bytes())
    times = [timegm(time.strptime(one["time"], "%Y-%m-%dT%H:%M:%SZ")) for one in begun]
    records = [one["time"] for one in read_records(run.path / "metrics.jsonl") if one["step"] <= run.step]
    spans = [max([moment - first for moment in records if first <= moment < last], default=0)
             for first, last in pairwise([*times, float("inf")])]
    return {"seconds": round(sum(spans)), "devices": sorted({device for one in begun for device in one["devices"]})}


def _without_places(value: Any) -> Any:
    """The configuration, of whose absolute paths the last part stays; those of the data are needed to read them."""
    if isinstance(value, Mapping):
        return {key: one if key == "data" else _without_places(one) for key, one in value.items()}
    if isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute()):
        return Path(value).name
    return value
