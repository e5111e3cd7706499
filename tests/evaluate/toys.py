"""Models of a few lines, whose measures a loop over examples can say; each has one ability of `jaxgen.models.base`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data
from jaxgen.core.types import Variables
from jaxgen.models import Classes

CLASSES, CODES = 3, 8


def variables(lost=None):
    """Variables of all models here; what a model says of the class `lost` is NaN."""
    by_class = np.zeros(CLASSES, np.float32)
    if lost is not None:
        by_class[lost] = np.nan
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(CODES), size=(CLASSES, CODES))).astype(np.float32)
    return Variables({"by_class": jnp.asarray(by_class), "log_q": jnp.asarray(table + by_class[:, None, None])}, {})


def dataset(count=10, name="noise", classes=CLASSES):
    """Images of 12x12 whose first pixel tells the class, one of the first `classes`."""
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32) % classes
    images[:, 0, 0, 0] = 100 * labels
    spec = data.Spec({"image": data.Image((12, 12, 1)), "label": data.Class(CLASSES)})
    return data.Dataset.from_spec(spec, {"image": images, "label": labels}, name=name, split="test")


def class_of(x):
    return jnp.round((x[:, 0, 0, 0] + 1) * 1.275).astype(jnp.int32)


def added(params, classes):
    return params["by_class"][classes][:, None, None, None]


class Output(NamedTuple):
    indices: jax.Array


class Half:
    """Reconstructs each image with half of its contrast; its codes are the eighths of the range."""

    num_codes = CODES

    def init(self, key, example_shape):
        return variables()

    def forward(self, variables, x, *, train=False, key=None):
        indices = jnp.floor((x[..., 0] + 1) * 3.99).astype(jnp.int32)
        return x / 2 + added(variables.params, class_of(x)), Output(indices), variables.state


class Digits:
    """Classifies by the first pixel, and takes class 2 for class 1."""

    num_classes = CLASSES

    def init(self, key, example_shape):
        return variables()

    def logits(self, variables, x):
        scores = jax.nn.one_hot(jnp.minimum(class_of(x), 1), CLASSES) * 3.0
        return scores + variables.params["by_class"][class_of(x)][:, None]

    def features(self, variables, x):
        return [x]


class Generating:
    """What everything that samples by class has."""

    conditions = Classes(CLASSES)
    sample_shape = (12, 12, 1)

    def init(self, key, example_shape):
        return variables()

    def encode(self, params, cond):
        return dict(cond)

    def null(self, count):
        return {"classes": jnp.full(count, CLASSES)}


class Noise(Generating):
    """The denoiser that says the mean, 0."""

    schedule = None

    def denoise(self, params, x, sigma, cond=None, *, key=None):
        return jnp.zeros_like(x) + added(params, cond["classes"])


class LatentNoise(Noise):
    """`Noise` of latents that are a third of the image."""

    def to_latents(self, variables, x, *, key=None, sample_ids=None):
        return x / 3

    def from_latents(self, variables, z):
        return z * 3


class EachToken:
    """A masked model: the probability of a token depends on the class only."""

    mask_id = CODES

    def logits(self, params, tokens, t, cond=None):
        return jnp.broadcast_to(params["log_q"][cond["classes"], 0][:, None], (*tokens.shape, CODES))


class TokenAfterToken:
    """An autoregressive model: a token depends on the class and on the one before it, 0 before the first."""

    next_logits = init_cache = staticmethod(lambda *arguments: None)

    def logits(self, params, tokens, cond=None):
        before = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
        return params["log_q"][cond["classes"][:, None], before]


class Prior(Generating):
    """A token prior over eighths of the range."""

    num_tokens = CODES
    sample_shape = (12, 12)

    def __init__(self, model):
        self.model = model

    def to_tokens(self, variables, x):
        return (jnp.round((x.reshape(-1, 144) + 1) * 127.5) // 32).astype(jnp.int32)

    def from_tokens(self, variables, tokens):
        return tokens.reshape(-1, 12, 12, 1) / 4.0 - 1

    def token_shape(self, example_shape):
        return (144,)
