"""A trained run, read back: its configuration, its model and weights, and what can be done with them.

    run = jaxgen.runs.load("runs/digits")
    print(run)                                                   # what it is, and what it can do
    images = run.sample(16, classes=[3, 5])                      # [16, H, W, C], -1 is black and 1 white
    numbers = run.evaluate()                                     # on its held-out data

Each method is one call of a part of the library that works without a run too: `jaxgen.generate`, `jaxgen.evaluate`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgen import data, generate
from jaxgen.codec import Codec
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.data import Dataset, Spec, spec_from_json
from jaxgen.evaluate import EVALUATORS, Judgement, judge, make_evaluator
from jaxgen.models import Autoencoder, Denoising, Reconstructing, Tokenizer
from jaxgen.models.base import Model, SecondStage
from jaxgen.runs.checkpoint import read_model, read_run
from jaxgen.runs.reference import read_weights
from jaxgen.runs.run_codec import fit, load_codec, write_probabilities
from jaxgen.runs.shipped import locate
from jaxgen.runs.weights_file import is_published
from jaxgen.show import to_uint8


class Run:
    """A trained run.

    Attributes:
        path: its directory.
        config: its configuration, as config.json holds it.
        model: the model, see `jaxgen.models.base` for what it can do.
        variables: the weights; averaged ones where the run kept an average.
        step: of the checkpoint.
    """

    def __init__(self, path: Path, config: dict[str, Any], model: Model, variables: Variables, step: int):
        self.path, self.config, self.model, self.variables, self.step = path, config, model, variables, step

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Of one example, without the batch."""
        return tuple(self.config["example_shape"])

    @property
    def spec(self) -> Spec:
        """What an example is."""
        return spec_from_json(self.config["spec"])

    @property
    def class_names(self) -> Sequence[str] | None:
        """The names of the classes, where the data have them."""
        return self.spec.class_names

    def __repr__(self) -> str:
        by = f" by configuration {name!r}" if (name := self.config.get("configuration")) else ""
        return (f"Run({str(self.path)!r}, step {self.step}): a {self.config['model']['name']!r}{by}, examples of "
                f"{'x'.join(map(str, self.example_shape))}; can {', '.join(abilities(self.model))}")

    @property
    def samples_off_centre(self) -> bool:
        """Whether samples are to be centred by their mass before they are compared with real images.

        The model was trained on shifted images (`config["data"]["crop"]`) of a set whose own are centred so, as MNIST's
        digits. Shifted samples of other sets are compared as they are.
        """
        own = self.config["data"]
        return bool(own.get("crop")) and data.centred_by_mass(own["name"])

    def dataset(self, split: str | None = None) -> Dataset:
        """The run's held-out data, or another split of its data."""
        return load_split(self.config["data"], split)

    def sampler(self, **settings: Any) -> generate.Sampler:
        """The sampler of the run's settings, some of them changed: solver, steps, guidance, ..."""
        if "sampling" not in self.config:
            raise ValueError(f"the run in {self.path} trained a {self.config['model']['name']!r}, which has no samples "
                             "of its own: give a run of a diffusion model or of a token prior")
        return generate.make_sampler(self.model, {**self.config["sampling"], **settings})

    def with_sampling(self, **settings: Any) -> "Run":
        """This run with other settings of sampling as its own, as `publish` writes them."""
        self.sampler(**settings)  # refuses what it cannot sample with
        config = {**self.config, "sampling": {**self.config["sampling"], **settings}}
        return Run(self.path, config, self.model, self.variables, self.step)

    def sample(
        self, count: int = 16, *, classes: Sequence[int | str] | None = None, prompts: Sequence[str] | None = None,
        seed: int = 0, batch: int = 64, **settings: Any,
    ) -> np.ndarray:
        """Samples [count, ...]; sample i depends on the seed and on i only.

        Of images -1 is black and 1 is white, and a network may go a little beyond.

        Args:
            count: how many.
            classes: of the samples, numbers or names, in turn; all by default.
            prompts: captions of the samples, in turn.
            seed: of the noise.
            batch: samples at a time.
            **settings: changes of the run's sampling: solver, steps, guidance, ...
        """
        cond = self.model.conditions.parse(count, classes=classes, prompts=prompts, names=self.class_names) \
            if hasattr(self.model, "conditions") else {}
        return generate.sample(self.sampler(**settings), self.variables, jax.random.key(seed), cond, count, batch=batch)

    def reconstruct(self, x: Float[Array, "B ..."]) -> np.ndarray:
        """What the model, or its first stage, makes of examples: of images -1 is black and 1 white.

        Raises:
            ValueError: the model has no reconstructions, or x is no batch of examples that it takes and gives back.
        """
        reconstruct = self.reconstruction_program
        self._check_batch(x)
        try:
            x_r = reconstruct(self.variables, x)
        except (TypeError, ValueError) as error:
            if np.shape(x)[1:] == self.example_shape:
                raise
            raise self._wrong_size(x, str(error)) from error
        if x_r.shape != np.shape(x):
            raise self._wrong_size(x, f"it comes back as {x_r.shape}")
        return np.asarray(x_r)

    def inpaint(
        self, x: Float[Array, "B ..."], keep: Bool[Array, "B ..."], *, classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None, seed: int = 0, **settings: Any,
    ) -> np.ndarray:
        """x where `keep` [B, H, W, 1] is True, and new elsewhere."""
        return self._edited(generate.inpaint, (x, keep), classes, prompts, seed, settings)

    def img2img(
        self, x: Float[Array, "B ..."], *, strength: float = 0.6, classes: Sequence[int | str] | None = None,
        prompts: Sequence[str] | None = None, seed: int = 0, **settings: Any,
    ) -> np.ndarray:
        """x with noise up to a share `strength` of the steps, denoised again."""
        return self._edited(generate.img2img, (x,), classes, prompts, seed, settings, strength=strength)

    def codec(self, probabilities: str = "context") -> Codec:
        """What `jaxgen.codec` compresses images with; `fit_codec` comes first.

        Args:
            probabilities: "static", "context", or of a token prior "prior" or "float", see `jaxgen/codec/README.md`.

        Raises:
            FileNotFoundError: nothing was fitted for this run.
            ValueError: a model without tokens of images, or without such probabilities.
        """
        return load_codec(self.model, self.variables, self.example_shape, self.path, probabilities,
                          "with run.fit_codec() or python -m experiments.fit_codec")

    def fit_codec(self, count: int | None = None) -> Path:
        """Fits the probabilities of the run's tokens and keeps them in its directory, in the file that is returned.

        Args:
            count: images of the training split that they are fitted on; None for all.
        """
        images = self.dataset(self.config["data"]["train_split"]).examples()[:count]
        fitted = fit(self.model, self.variables, self.example_shape, images)
        return write_probabilities(self.path, fitted, self.model, self.variables)

    def evaluate(self, dataset: Dataset | None = None, **options: Any) -> dict[str, float]:
        """All that can be measured of the model, on held-out data by default; see `jaxgen.evaluate.make_evaluator`."""
        dataset = self.dataset() if dataset is None else dataset
        if hasattr(self.model, "conditions"):
            dataset = self.model.conditions.prepare(dataset)
        return make_evaluator(self.model, **options)(self.variables, dataset)

    def judge(
        self, count: int = 500, *, classes: Sequence[int | str] | None = None, prompts: Sequence[str] | None = None,
        seed: int = 0, batch: int = 64, bar: bool = False, **settings: Any,
    ) -> tuple[np.ndarray, Judgement]:
        """(samples by class as bytes, how they compare with the run's real images); see `jaxgen.evaluate.judge`.

        Images are centred before they are compared where `samples_off_centre`.

        Args:
            count, classes, prompts, seed, batch, **settings: see `sample`.
            bar: shows progress on a terminal.

        Raises:
            ValueError: the model has no classes, or a sample is not finite.
        """
        conditions = getattr(self.model, "conditions", None)
        if not getattr(conditions, "num_classes", 0):
            raise ValueError(f"the run in {self.path} has no classes, so there is nothing to agree with: look at its "
                             "samples")
        cond = conditions.parse(count, classes=classes, prompts=prompts, names=self.class_names)
        samples = generate.sample(self.sampler(**settings), self.variables, jax.random.key(seed), cond, count,
                                  batch=batch, bar=bar)
        generate.check_all(generate.finite_images(samples), "samples", "they cannot be judged")
        images, train_set = to_uint8(samples), self.dataset(self.config["data"]["train_split"])
        judgement = judge(images, cond["classes"], train_set, self.dataset(),
                          centre=self.samples_off_centre)
        return images, judgement

    def _edited(self, edit, arguments, classes, prompts, seed, settings, **own):
        x, conditions = arguments[0], self.model.conditions
        self._check_batch(x)
        if np.shape(x)[1:] != self.example_shape:
            raise self._wrong_size(x, "it samples in one size")
        count = len(x)
        cond = self.model.null(count)
        if classes is not None or prompts is not None:
            cond = conditions.parse(count, classes=classes, prompts=prompts, names=self.class_names)
        key = jax.random.key(seed)
        return np.asarray(edit(self.sampler(**settings), self.variables, key, *arguments, cond, **own))

    def _check_batch(self, x: Array) -> None:
        """Refuses what has other axes or channels than a batch of the run's examples."""
        own, shape = self.example_shape, np.shape(x)
        if len(shape) == len(own) + 1 and (len(own) == 1 or shape[-1] == own[-1]):
            return
        fix = "give one example an axis, x[None]" if len(shape) == len(own) else "bring them into this shape"
        raise ValueError(f"x must be a batch of the run's examples, [B, {', '.join(map(str, own))}], got shape "
                         f"{shape}: {fix}")

    def _wrong_size(self, x: Array, reason: str) -> ValueError:
        return ValueError(f"x has shape {np.shape(x)}, and this model was trained on examples of {self.example_shape}: "
                          f"{reason}. Resize the examples, or crop them")

    @cached_property
    def reconstruction_program(self) -> Callable:
        """`(variables, x) -> x_r` under `jax.jit`; raises ValueError where the model has no reconstructions."""
        return jax.jit(reconstructor(self.model), compiler_options=compiler_options())


def reconstructor(model: Model) -> Callable[[Variables, Array], Array]:
    """`(variables, x) -> x_r` of a model that can give back what it takes.

    Raises:
        ValueError: the model cannot.
    """
    if isinstance(model, Reconstructing):
        return lambda variables, x: model.forward(variables, x)[0]
    if isinstance(model, Autoencoder):
        return lambda variables, x: model.from_latents(variables, model.to_latents(variables, x))
    if isinstance(model, Tokenizer):
        return lambda variables, x: model.from_tokens(variables, model.to_tokens(variables, x))
    raise ValueError(f"a {type(model).__name__} has no reconstructions: give the run of an autoencoder, or of a model "
                     "that is made over one")


def abilities(model: Model) -> tuple[str, ...]:
    """The names of the methods of `Run` that apply to a model, by what it can do."""
    samples = any(isinstance(model, able) for able, _ in generate.SAMPLERS)
    applies = {
        "sample": samples, "inpaint": samples, "img2img": isinstance(model, Denoising),
        "reconstruct": isinstance(model, (Reconstructing, Autoencoder, Tokenizer)),
        "evaluate": isinstance(model, SecondStage) or any(able(model) for able, _ in EVALUATORS),
    }
    return tuple(name for name, does in applies.items() if does)


def load(directory: str | Path, *, step: int | None = None, build: Callable[..., Model] | None = None) -> Run:
    """Configuration, model and weights of a run, and what can be done with them, in one call.

    Args:
        directory: of a run or of a published checkpoint (see `jaxgen.runs.publish`); or a bare name where there is no
            such directory, of a checkpoint that comes with the repository (see `jaxgen.runs.shipped`).
        step: of the checkpoint; None for the newest. A published one has one.
        build: `(**config["model"]) -> model` for a family of your own, or `partial(jaxgen.models.build,
            quantizers={"my_module.ternary": my_module.ternary})` for your own quantizer; None for
            `jaxgen.models.build`.

    Raises:
        FileNotFoundError: it is no run's directory, or has no checkpoint; no checkpoint of that name is shipped; the
            first stage of a published checkpoint that does not hold it is not there, or is another one.
        ValueError: the configuration is damaged, or does not fit the checkpoint.
        DamagedCheckpointError: files are missing or changed.
    """
    path = locate(directory)
    if is_published(path):
        config, model, template = read_model(path, build)
        variables, published = read_weights(path, model, template)
        if step not in (None, published):
            raise FileNotFoundError(f"no checkpoint of step {step} in {path}: it was published at step {published}")
        return Run(path, config, model, variables, published)
    loaded = read_run(path, step=step, build=build)
    params = loaded.params if loaded.ema_params is None else loaded.ema_params
    return Run(path, loaded.config, loaded.model, Variables(params, loaded.model_state), loaded.step)


def load_split(config: Mapping[str, Any], split: str | None = None) -> Dataset:
    """The held-out split that a configuration's "data" describes, or another one."""
    options = {name: value for name, value in config["options"].items() if value is not None}
    return data.load(config["name"], split or config["test_split"], image_size=config["image_size"] or None, **options)
