"""What a report shows of a run: the arrays are computed here, and drawn by `jaxgen.show`.

Each of `PARTS` looks at what the model can do and gives a part of the page, or None where it has nothing to show.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.decoded_codes import decoded_codes
from jaxgen import data, evaluate, generate, models, runs, show
from jaxgen.core.batches import BATCH, in_batches
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.evaluate.reconstruction import EXACT, SMALLEST_SSIM
from jaxgen.evaluate.reproduction import REPRODUCE, Number
from jaxgen.metrics import binomial_interval, psnr, ssim
from jaxgen.quantize import usage
from jaxgen.runs.model_card import measured_on

RECONSTRUCTED = 32
MEASURED = 256  # held-out examples
COUNTED = 1000  # held-out examples whose codes are counted, fewer where they are large
PIXELS = 20_000_000  # numbers in those examples at most
CODES = 1024  # codes that are drawn, the most used
MOVING = 8  # samples that are shown on their way
SEARCHED = 20_000  # training images among which neighbours are searched
CLASSES = 20  # with a row of samples each
# Shares, which have Wilson's interval, and the name of the count that each is of.
SHARES = {"accuracy": "examples", "agreement": "samples", "classifier_accuracy": "judge_held_out"}


@dataclass
class Shown:
    """A run with what several parts need of it.

    Attributes:
        run: the run.
        count: samples that are drawn.
        seed: of their noise.
    """

    run: runs.Run
    count: int
    seed: int

    @cached_property
    def card(self) -> list[Number]:
        """The numbers of a published checkpoint."""
        file = self.run.path / REPRODUCE
        return evaluate.read_reproduction(file)[1] if file.is_file() else []

    @cached_property
    def held_out(self) -> data.Dataset:
        return self.run.dataset()

    @cached_property
    def of_images(self) -> bool:
        return isinstance(self.run.spec[self.run.spec.example], data.Image)

    @cached_property
    def stage(self) -> tuple[Any, Variables]:
        """The first stage and its variables, or the model itself where it is made over none."""
        model, variables = self.run.model, self.run.variables
        return model.first_stage(variables) if isinstance(model, models.SecondStage) else (model, variables)

    @cached_property
    def able(self) -> tuple[str, ...]:
        return runs.abilities(self.run.model)

    @cached_property
    def captions(self) -> list[str] | None:
        """Held-out captions, for models of text."""
        if "text" not in getattr(self.run.model, "conditions", models.Unconditional()).entries:
            return None
        return [str(caption) for caption in self.held_out.spread(min(self.count, 24))["caption"]]

    @cached_property
    def cond(self) -> dict[str, Any]:
        """The samples' conditions: all classes in turn, or the captions."""
        prompts = self.captions
        return self.run.model.conditions.parse(len(prompts) if prompts else self.count, prompts=prompts,
                                               names=self.run.class_names)

    @cached_property
    def samples(self) -> np.ndarray:
        """uint8 [B, H, W, C], black where one is not finite."""
        count = len(self.captions) if self.captions else self.count
        samples = generate.sample(self.run.sampler(), self.run.variables, jax.random.key(self.seed), self.cond, count,
                                  batch=min(BATCH, count), bar=True)
        generate.check_any(generate.finite_images(samples), "samples")
        return show.to_uint8(samples)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(held-out images, their reconstructions), uint8."""
        images = self.held_out.spread(max(MEASURED, self.count))[self.held_out.example]
        return images, in_batches(lambda part: show.to_uint8(self.run.reconstruct(data.to_float(part))), images)

    def some_pairs(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` of the pairs from all over, since sets may be in the order of their classes."""
        chosen = np.linspace(0, len(self.pairs[0]) - 1, min(count, len(self.pairs[0]))).astype(int)
        return self.pairs[0][chosen], self.pairs[1][chosen]


def model(shown: Shown) -> show.Part:
    """What the model is, its configuration, and the model card where the directory has one."""
    run = shown.run
    config, sizes = run.config, {name: _parameters(tree) for name, tree in _children(run.variables.params).items()}
    card = run.path / "README.md"
    total, dataset = _parameters(run.variables.params), config["data"]
    facts = {
        "model": config["model"]["name"], "configuration": config.get("configuration"),
        "step": f"{run.step} of {config.get('num_steps')}", "data": f"{dataset['name']} ({dataset['train_split']}; "
        f"held out: {dataset['test_split']})",
        "an example": "x".join(map(str, run.example_shape)), "trained parameters": total,
        "largest parts": ", ".join(f"{name} {size / total:.0%}" for name, size in
                                   sorted(sizes.items(), key=lambda item: -item[1])[:4]) if len(sizes) > 1 else None,
        "conditions": str(config["model"].get("conditions", {}).get("name") or "") or None,
        "sampling": ", ".join(f"{key} {show.text(value)}" for key, value in config.get("sampling", {}).items()) or None,
        "can": ", ".join(shown.able),
        "images": None if shown.of_images else "none: examples are no images",
    }
    text = json.dumps({name: value for name, value in config.items() if name != "spec"}, indent=2)
    return show.model_part(facts, text, card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None)


def curves(shown: Shown) -> show.Part:
    """The curves of what the training logged."""
    return show.curves_part(show.read_records(shown.run.path / "metrics.jsonl"))


def metrics(shown: Shown) -> show.Part:
    """The card's numbers, else those that experiments.evaluate left, else of some images and of the training's end."""
    if shown.card:
        tables = {}
        for one in shown.card:
            tables.setdefault(measured_on(one.evaluation), {})[one.name] = (one.value, one.tolerance)
        return show.metrics_part(tables)
    path = shown.run.path
    files = sorted([*path.glob("evaluation-*.json"), *path.glob("nearest-*.json")])
    tables = {file.stem: with_intervals(json.loads(file.read_text(encoding="utf-8"))) for file in files}
    if not files and "reconstruct" in shown.able and shown.of_images:
        tables[f"{len(shown.pairs[0])} held-out images, reconstructed"] = _compared(*shown.pairs)
    if not files:
        last = {name.removeprefix("eval/"): value for record in show.read_records(path / "metrics.jsonl")
                for name, value in record.items() if name.startswith("eval/") and value is not None}
        last |= {"examples": len(shown.held_out)} if last else {}
        tables |= {"the training's last evaluation": with_intervals(last)} if last else {}
    return show.metrics_part(tables)


def reconstructions(shown: Shown) -> show.Part | None:
    """Held-out images and their reconstructions."""
    if "reconstruct" not in shown.able or not shown.of_images:
        return None
    return show.reconstructions_part(*shown.some_pairs(RECONSTRUCTED),
                                     what=f"images of {shown.held_out.name}/{shown.held_out.split}")


def samples(shown: Shown) -> show.Part | None:
    """Samples that nobody chose, and some of each class."""
    if "sample" not in shown.able or not shown.of_images:
        return None
    by_class, classes = {}, shown.cond.get("classes")
    if classes is not None:
        names = shown.run.class_names or [str(c) for c in range(shown.run.model.conditions.num_classes)]
        by_class = {names[c]: shown.samples[classes == c][:8] for c in np.unique(classes)[:CLASSES]}
    how = (f"{min(64, len(shown.samples))} of {len(shown.samples)} samples with seed {shown.seed}, not chosen by hand; "
           f"{shown.run.sampler().work.evaluations()} network evaluations each, guidance included.")
    mixed = np.random.default_rng(shown.seed).permutation(len(shown.samples))[:64]
    if shown.captions:
        return show.samples_part(shown.samples, captions=shown.captions, how=how)
    return show.samples_part(shown.samples[mixed], by_class=by_class, how=how)


def trajectory(shown: Shown) -> show.Part | None:
    """The states between noise and image of a diffusion model, the order of the tokens of a token prior."""
    if "sample" not in shown.able or not shown.of_images:
        return None
    run = shown.run
    sampler, ids, key = run.sampler(), jnp.arange(MOVING), jax.random.key(shown.seed)
    cond = {name: jnp.asarray(np.resize(value, (MOVING, *value.shape[1:]))) for name, value in shown.cond.items()}
    if isinstance(run.model, models.Denoising):
        moving = generate.diffusion_sampler(run.model, sampler.settings, save_every=1)
        states = np.asarray(moving.draw(run.variables, key, ids, cond)[1])
        return show.denoising_part(np.nan_to_num(states), np.asarray(moving.parts.sigmas)[1:][: len(states)])
    shape = run.model.sample_shape
    if len(shape) < 2 or any(size % part for size, part in zip(run.example_shape, shape[:2])):
        return None
    images, seen = generate.token_trajectory(sampler, run.variables, key, ids, cond)
    return show.filling_part(show.to_uint8(images), np.asarray(seen) >= 0, shape)


def codes(shown: Shown) -> show.Part | None:
    """The codebook of a tokenizer, its own or its first stage's, as held-out examples use it."""
    stage, variables = shown.stage
    if not (isinstance(stage, models.Tokenizer) and isinstance(stage, models.Reconstructing) and shown.of_images):
        return None
    to_tokens = jax.jit(stage.to_tokens, compiler_options=compiler_options())
    count = max(BATCH, min(COUNTED, PIXELS // prod(shown.run.example_shape)))
    images = data.to_float(shown.held_out.spread(count)[shown.held_out.example])
    tokens = in_batches(partial(to_tokens, variables), images)
    # Of residual and grouped quantizers the first level: those after it say little without it.
    first = tokens if tokens.ndim == 3 else tokens.reshape(*tokens.shape[:3], -1)[..., 0]
    counts = np.asarray(usage(jnp.asarray(first), stage.num_tokens).histogram).astype(int)
    chosen = np.sort(np.argsort(-counts, kind="stable")[:CODES])
    patches = vectors = None
    if tokens.ndim == 3:
        patches = decoded_codes(stage, variables, chosen, tokens, shown.run.example_shape)
        if hasattr(stage, "quantizer"):
            own = Variables(variables.params["quantizer"], variables.state)
            vectors = np.asarray(stage.quantizer.lookup(own, jnp.asarray(chosen)))
    what = f"{len(images)} images of {shown.held_out.name}/{shown.held_out.split}"
    return show.codes_part(counts, chosen=chosen, patches=patches, vectors=vectors,
                           what=what if tokens.ndim == 3 else f"the first level of {what}")


def neighbours(shown: Shown) -> show.Part | None:
    """The training images nearest to samples, and how far held-out images are from theirs."""
    if "sample" not in shown.able or not shown.of_images:
        return None
    train_set = shown.run.dataset(shown.run.config["data"]["train_split"])
    training = train_set.spread(SEARCHED)[train_set.example]
    centre = shown.run.samples_off_centre
    distances, nearest = evaluate.nearest_images(shown.samples, training, centre=centre)
    held_out = evaluate.nearest_images(shown.held_out.spread(MEASURED)[shown.held_out.example], training, centre=centre)
    return show.neighbours_part(shown.samples, training[nearest], distances, held_out=held_out[0],
                                what=f"{len(training):,} training images")


PARTS: tuple[tuple[str, Callable[[Shown], show.Part | None]], ...] = (
    ("what the model is", model), ("curves", curves), ("metrics", metrics), ("reconstructions", reconstructions),
    ("samples", samples), ("the way to a sample", trajectory), ("the codebook", codes),
    ("nearest training images", neighbours),
)


def with_intervals(values: dict[str, Any]) -> dict[str, Any]:
    """The values of an evaluation's JSON, without what is nested.

    One is (value, low, high) where there are "NAME_low" and "NAME_high" too, or if it is one of SHARES whose count is
    there.

    Example:
        >>> with_intervals({"psnr": 20.0, "psnr_low": 19.0, "psnr_high": 21.0, "by_class": {"a": 1}})
        {'psnr': (20.0, 19.0, 21.0)}
    """
    result = {}
    for name, value in values.items():
        bounds = tuple(values.get(f"{name}_{end}") for end in ("low", "high"))
        count = values.get(SHARES.get(name))
        stem, _, end = name.rpartition("_")
        if isinstance(value, dict | list) or (end in ("low", "high") and stem in values):
            continue
        if None not in bounds:
            result[name] = (value, *bounds)
        elif count and 0 <= value <= 1:
            result[name] = (value, *binomial_interval(round(value * count), count))
        else:
            result[name] = value
    return result


def _compared(images, restored):
    """Means over images with intervals of 95%, by the normal distribution."""
    values = {"PSNR [dB]": np.minimum(np.asarray(psnr(images, restored, value_range=(0, 255))), EXACT)}
    if min(images.shape[1:3]) >= SMALLEST_SSIM:
        values["SSIM"] = np.asarray(ssim(images, restored, value_range=(0, 255)))
    half = {name: 1.96 * float(value.std(ddof=1)) / len(value) ** 0.5 for name, value in values.items()
            if len(value) > 1}
    return {name: (float(value.mean()), float(value.mean()) - half[name], float(value.mean()) + half[name])
            if name in half else float(value.mean()) for name, value in values.items()}


def _children(params):
    """A model's parts: its network's, where it has but one."""
    while isinstance(params, dict) and len(params) == 1:
        params = next(iter(params.values()))
    return params if isinstance(params, dict) else {}


def _parameters(tree):
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(tree))
