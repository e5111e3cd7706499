"""A codebook as a value: how its codes start, how they are read, and how a training batch changes them.

Three kinds, and three wrappers that give any of the first two what it lacks:

    gradient   codes are parameters, moved by the gradient of the codebook loss
    ema        codes are state, exponential moving averages of the vectors that chose them
    mapped     codes are frozen state times a learned linear map
    kmeans     the first training batch sets the codes by k-means
    revival    codes that are used too little become vectors of the batch
    rate       codes that are used little cost more bits (see `jaxgen.quantize.rate`)

The moving averages (van den Oord et al. 2017, arXiv:1711.00937, appendix A), with n_k vectors on code k:

    N_k <- g N_k + (1 - g) n_k;    m_k <- g m_k + (1 - g) sum_{z on k} z
    e_k = m_k / ((N_k + eps) / (sum N + K eps) sum N)          where n_k > 0; other codes keep their value exactly
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.mapped import agreed, change_if
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.batch import Batch, draw_vectors, kmeans
from jaxgen.quantize.nearest import scaled

EPSILON = 1e-5
USAGE_DECAY = 0.99


class Codebook(Protocol):
    """K codes of D components. Instances are frozen dataclasses: equal settings make equal, hashable codebooks.

    Attributes:
        num_codes: K.
        has_gradient: the codes depend on the parameters, so that there is a codebook loss.
        draws: training draws random numbers: `prepare` and `update` need keys.
        learns: training changes the state.
    """

    num_codes: int
    has_gradient: bool
    draws: bool
    learns: bool

    def init(self, key: Array, dim: int) -> Variables:
        """Parameters and state; one of the two holds "codebook" `[K, D]`."""

    def read(self, params: dict, state: dict) -> Float[Array, "K D"]:
        """The codes in float32, differentiable in the parameters."""

    def cost(self, state: dict) -> Float[Array, "K"] | None:
        """What choosing each code costs, in squared distance; None where nearness decides by itself."""

    def prepare(self, params: dict, state: dict, batch: Batch, key: Array | None) -> dict:
        """The state before a training batch chooses its codes."""

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        """The state after it; `chosen` holds the vectors on each code, `[K]`, and their sums, `[K, D]`."""

    def place(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None = None) -> dict:
        """The state in which the codes `where` `[K]` have the given values `[K, D]`, as if `counts` were on each."""


def dim_of(variables: Variables) -> int:
    """D, the components of the vectors that these variables quantize."""
    return {**variables.params, **variables.state}["codebook"].shape[-1]


def smoothed(counts: Float[Array, "K"]) -> Float[Array, "K"]:
    """Laplace-smoothed counts `(N + eps) / (sum N + K eps) sum N`, of the same sum."""
    total = jnp.sum(counts)
    return (counts + EPSILON) / (total + counts.size * EPSILON) * total


def average(old: Array, new: Array, decay: float, total: Array) -> Array:
    """`decay old + (1 - decay) new`; the old value after a batch without any vector that counts."""
    return jnp.where(total > 0, decay * old + (1 - decay) * new, old)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """What a codebook is that no batch changes."""

    num_codes: int
    has_gradient = True
    draws = False
    learns = False

    def cost(self, state: dict) -> None:
        return None

    def prepare(self, params: dict, state: dict, batch: Batch, key: Array | None) -> dict:
        return state

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        return state

    def normal(self, key: Array, dim: int) -> Float[Array, "K D"]:
        """Random codes of about unit length."""
        return jax.random.normal(key, (self.num_codes, dim), jnp.float32) / dim**0.5


@dataclasses.dataclass(frozen=True)
class Gradient(Fixed):
    """Codes that the optimizer moves: e = params["codebook"], plus state["offset"] where codes are placed.

    A placed code moves by its offset, so that the optimizer's parameters stay the optimizer's.
    """

    metric: str = "euclidean"
    placed: bool = False
    axis_name: AxisName = None

    def init(self, key: Array, dim: int) -> Variables:
        codebook = scaled(self.normal(key, dim), self.metric)
        return Variables({"codebook": codebook}, {"offset": jnp.zeros_like(codebook)} if self.placed else {})

    def read(self, params: dict, state: dict) -> Float[Array, "K D"]:
        codebook = params["codebook"].astype(jnp.float32)
        return scaled(codebook + state["offset"].astype(jnp.float32) if self.placed else codebook, self.metric)

    def place(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None = None) -> dict:
        offset = values - agreed(params["codebook"].astype(jnp.float32), self.axis_name)
        return state | {"offset": jnp.where(where[:, None], offset, state["offset"])}


@dataclasses.dataclass(frozen=True)
class EMA(Fixed):
    """Codes that are moving averages of the vectors that chose them: state "codebook", "counts", "sums"."""

    metric: str = "euclidean"
    decay: float = 0.99
    has_gradient = False
    learns = True

    def init(self, key: Array, dim: int) -> Variables:
        codebook = scaled(self.normal(key, dim), self.metric)
        # A copy, since a buffer that stands twice cannot be donated.
        counts = jnp.ones(self.num_codes, jnp.float32)
        return Variables({}, {"codebook": codebook, "counts": counts, "sums": jnp.copy(codebook)})

    def read(self, params: dict, state: dict) -> Float[Array, "K D"]:
        return state["codebook"].astype(jnp.float32)

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        hits, hit_sums = chosen
        total = jnp.sum(hits)
        counts = average(state["counts"], hits, self.decay, total)
        sums = average(state["sums"], hit_sums, self.decay, total)
        moved = scaled(sums / smoothed(counts)[:, None], self.metric)
        codebook = jnp.where(hits[:, None] > 0, moved, state["codebook"])
        new = {"codebook": codebook, "counts": counts, "sums": sums}
        return state | {name: value.astype(state[name].dtype) for name, value in new.items()}

    def place(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None = None) -> dict:
        if counts is None:
            counts = jnp.where(where, jnp.mean(state["counts"]), state["counts"])
        where = where[:, None]
        sums = jnp.where(where, values * smoothed(counts)[:, None], state["sums"])
        return state | {"codebook": jnp.where(where, values, state["codebook"]), "counts": counts, "sums": sums}


@dataclasses.dataclass(frozen=True)
class Mapped(Fixed):
    """Frozen random codes times a learned map, the identity at first: params "map" `[D, D]`, state "codebook"."""

    def init(self, key: Array, dim: int) -> Variables:
        return Variables({"map": jnp.eye(dim, dtype=jnp.float32)}, {"codebook": self.normal(key, dim)})

    def read(self, params: dict, state: dict) -> Float[Array, "K D"]:
        # All codes are mapped even for few indices: a code then has the same bits in every batch.
        frozen = jax.lax.stop_gradient(state["codebook"].astype(jnp.float32))
        return jnp.dot(frozen, params["map"].astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A codebook that hands all to another one; what it does more is written in its subclasses."""

    codebook: Codebook

    draws = True

    @property
    def num_codes(self) -> int:
        return self.codebook.num_codes

    @property
    def has_gradient(self) -> bool:
        return self.codebook.has_gradient

    @property
    def learns(self) -> bool:
        return self.codebook.learns

    def init(self, key: Array, dim: int) -> Variables:
        return self.codebook.init(key, dim)

    def read(self, params: dict, state: dict) -> Float[Array, "K D"]:
        return self.codebook.read(params, state)

    def cost(self, state: dict) -> Float[Array, "K"] | None:
        return self.codebook.cost(state)

    def prepare(self, params: dict, state: dict, batch: Batch, key: Array | None) -> dict:
        return self.codebook.prepare(params, state, batch, key)

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        return self.codebook.update(params, state, batch, chosen, key)

    def place(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None = None) -> dict:
        return self.codebook.place(params, state, values, where, counts)


@dataclasses.dataclass(frozen=True)
class WithKMeans(Wrapped):
    """A codebook whose codes the first training batch with a vector that counts sets: state "initialized"."""

    iterations: int
    metric: str
    block_size: int | None
    axis_name: AxisName

    def init(self, key: Array, dim: int) -> Variables:
        params, state = self.codebook.init(key, dim)
        return Variables(params, state | {"initialized": jnp.zeros((), bool)})

    def prepare(self, params: dict, state: dict, batch: Batch, key: Array | None) -> dict:
        def initialised(state: dict) -> dict:
            centres, counts = kmeans(
                key, batch, agreed(self.read(params, state), self.axis_name),
                iterations=self.iterations, metric=self.metric, block_size=self.block_size,
            )
            everywhere = jnp.ones(self.num_codes, bool)
            return self.place(params, state, centres, everywhere, counts) | {"initialized": jnp.ones((), bool)}

        return change_if(~state["initialized"] & (batch.size() > 0), initialised, state)


@dataclasses.dataclass(frozen=True)
class WithRevival(Wrapped):
    """A codebook whose codes become vectors of the batch when `usage` falls below `below / K`: state "usage".

    Usage is a moving average of the fraction of vectors on each code.
    """

    below: float
    decay: float
    learns = True

    def init(self, key: Array, dim: int) -> Variables:
        params, state = self.codebook.init(key, dim)
        return Variables(params, state | {"usage": jnp.full(self.num_codes, 1 / self.num_codes, jnp.float32)})

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        state = self.codebook.update(params, state, batch, chosen, key)
        total = jnp.sum(chosen[0])
        usage = average(state["usage"], chosen[0] / jnp.maximum(total, 1), self.decay, total)
        state = state | {"usage": usage.astype(state["usage"].dtype)}
        dead = state["usage"] * self.num_codes < self.below

        def revived(state: dict) -> dict:
            vectors, served = draw_vectors(key, batch, dead)
            usage = jnp.where(served, 1 / self.num_codes, state["usage"])
            return self.place(params, state, vectors, served) | {"usage": usage}

        return change_if(jnp.any(dead), revived, state)
