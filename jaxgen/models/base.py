"""What a model can do. No part of the library asks which family a model is of; it asks for one of these protocols.

A family is a frozen dataclass whose fields are given by keyword and whose methods are pure functions of explicit
`Variables(params, state)`: `params` is what the gradient trains, `state` everything else that a checkpoint must hold.
Nothing has to inherit from these classes: a class with the methods is enough.

    Reconstructing   forward            VQ-VAE, VQ-VAE-2, KL autoencoder    -> objectives.vqvae_loss, reconstruction
    Autoencoder      to/from_latents    VQ-VAE, KL autoencoder              -> latent diffusion over it
    Tokenizer        to/from_tokens     VQ-VAE, bytes                       -> a token prior over it, compression
    Classifying      logits, features   classifier                          -> accuracy, a perceptual distance
    Denoising        denoise            diffusion                           -> samples, editing, the variational bound
    TokenGenerating  model              token prior                         -> samples, code lengths
    SecondStage      first_stage        latent diffusion, token prior       -> what its first stage can do
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.types import PyTree, Variables
from jaxgen.models.conditions import Condition

Shape = tuple[int, ...]
Cond = Mapping[str, Array]


class Model(Protocol):
    """What every model has."""

    def init(self, key: PRNGKeyArray, example_shape: Shape) -> Variables:
        """Fresh variables for examples of this shape, without the batch."""


@runtime_checkable
class Reconstructing(Protocol):
    """Gives back what it is given, for training and for measuring."""

    num_codes: Any
    """Of its index maps: a number, one per map by name, or None where there are none."""

    def forward(
        self, variables: Variables, x: Float[Array, "B ..."], *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B ..."], Any, PyTree]:
        """(x_r, outputs, state).

        outputs is one value, a dict of them by name, or {}; each has `losses`, a dict of arrays whose means are added
        to the objective, and a quantizer's has `indices`.
        """


@runtime_checkable
class Autoencoder(Protocol):
    """Examples to latents and back."""

    def to_latents(
        self, variables: Variables, x: Float[Array, "B ..."], *, key: PRNGKeyArray | None = None,
        sample_ids: Int[Array, "B"] | None = None,
    ) -> Float[Array, "B ..."]:
        """z of x; of a posterior a draw, or without a key its mode. Example i draws from fold_in(key, its id)."""

    def from_latents(self, variables: Variables, z: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """x of z."""


@runtime_checkable
class Tokenizer(Protocol):
    """Examples to whole numbers and back."""

    num_tokens: int

    def to_tokens(self, variables: Variables, x: Array) -> Int[Array, "B ..."]:
        """Tokens below `num_tokens`."""

    def from_tokens(self, variables: Variables, tokens: Int[Array, "B ..."]) -> Array:
        """The example of the tokens."""

    def token_shape(self, example_shape: Shape) -> Shape:
        """The shape of the tokens of one example."""


@runtime_checkable
class Classifying(Protocol):
    """Tells classes apart."""

    num_classes: int

    def logits(self, variables: Variables, x: Float[Array, "B ..."]) -> Float[Array, "B K"]: ...

    def features(self, variables: Variables, x: Float[Array, "B ..."]) -> list[Float[Array, "B ..."]]:
        """Maps from fine to coarse, for a perceptual distance."""


class Generator(Protocol):
    """What everything that samples has."""

    conditions: Condition
    sample_shape: Shape
    """Of one sample as the model sees it: an example, latents (h, w, D), or tokens (h, w) or (h, w, levels)."""

    def encode(self, params: PyTree, cond: Cond | None) -> dict[str, Array]:
        """cond as the network takes it, for many calls: text is encoded."""

    def null(self, count: int) -> dict[str, Array]:
        """The cond of `count` samples that stands for "no condition"."""


@runtime_checkable
class Denoising(Generator, Protocol):
    """Samples by diffusion. One that is an `Autoencoder` too diffuses its latents."""

    schedule: Any
    """`jaxgen.diffusion.Schedule`, or None where the network's time is the noise level."""

    def denoise(
        self, params: PyTree, x: Float[Array, "B ..."], sigma: Float[Array, "..."], cond: Cond | None = None, *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B ..."]:
        """x0 of x at noise level sigma [] or [B]; a key for dropout."""


@runtime_checkable
class MaskedTokens(Protocol):
    """A network that sees the tokens around a mask."""

    mask_id: int

    def logits(self, params: PyTree, tokens: Int[Array, "B N"], t: Float[Array, "B"], cond: Cond | None = None
               ) -> Float[Array, "B N K"]:
        """Of every token, at a time t that is the share of masks."""


@runtime_checkable
class NextTokens(Protocol):
    """A network that sees the tokens before."""

    next_logits: Callable[..., tuple[Float[Array, "B 1 K"], PyTree]]
    """(params, before [B, 1], cache, index [], cond) -> (logits of the token at index, cache)."""

    def logits(self, params: PyTree, tokens: Int[Array, "B N"], cond: Cond | None = None) -> Float[Array, "B N K"]:
        """Of every token, given those before it."""

    def init_cache(self, count: int, length: int) -> PyTree:
        """The empty cache of `count` sequences of `length` tokens."""


@runtime_checkable
class TokenGenerating(Generator, Tokenizer, Protocol):
    """Samples tokens [B, N] in row-major order and decodes them; `model` is `MaskedTokens` or `NextTokens`."""

    model: Any


@runtime_checkable
class SecondStage(Protocol):
    """Is made on top of a trained model, which its checkpoints hold."""

    def first_stage(self, variables: Variables) -> tuple[Any, Variables]:
        """The first stage and its variables."""
