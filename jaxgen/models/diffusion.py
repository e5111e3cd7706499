"""A diffusion model: a network, its preconditioning and its conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from jaxgen.core.checks import check_counts, choose
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.diffusion import Schedule, precondition
from jaxgen.models.conditions import UNCONDITIONAL, Condition, build_conditions
from jaxgen.models.description import check_description, make_network
from jaxgen.models.parts import make_schedule
from jaxgen.nn.dit import DiT
from jaxgen.nn.unet import UNet

NETWORKS = {"unet": UNet, "dit": DiT}


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """A diffusion model; `params` holds "network" and the conditions' own, such as "text"; the state is {}.

    Attributes:
        network: Linen module, `(x [B, ...], time [B], *, classes, context, context_mask)` (`UNet`, `DiT`).
        sample_shape: of one sample, without the batch; a convolutional network also takes others.
        kind, schedule, sigma_data: see `jaxgen.diffusion.precondition`; the schedule is None for kind "edm".
        conditions: `Classes(count)`, `Text(encoder, length)`, `Unconditional()`.

    Raises:
        ValueError: a network whose time embedding does not suit the kind, or of other classes than the conditions; in
            its methods a condition that the model
            does not take, and a class out of range, as far as the class is known while tracing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxgen.models import Classes
        >>> from jaxgen.nn import UNet
        >>> network = UNet(channels=(8,), layers=1, down=("plain",), num_classes=10, out_channels=1)
        >>> model = DiffusionModel(network=network, sample_shape=(8, 8, 1), conditions=Classes(10))
        >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 1))
        >>> denoise = jax.jit(model.denoise)
        >>> x0 = denoise(variables.params, jnp.ones((2, 8, 8, 1)), 1.0, {"classes": jnp.array([3, 1])})
        >>> x0.shape
        (2, 8, 8, 1)
    """

    network: nn.Module
    sample_shape: tuple[int, ...]
    kind: str = "edm"
    schedule: Schedule | None = None
    sigma_data: float = 0.5
    conditions: Condition = UNCONDITIONAL

    def __post_init__(self):
        object.__setattr__(self, "sample_shape", check_counts("sample_shape", self.sample_shape))
        if self.kind == "edm" and getattr(self.network, "time_embedding", None) == "fourier":
            raise ValueError("time_embedding='fourier' takes the log of the time, but kind='edm' gives ln(sigma) / 4, "
                             "below 0 where noise is small: use time_embedding='sinusoidal', or another kind")
        classes = getattr(self.network, "num_classes", 0)
        if classes and self.conditions.num_classes not in (0, classes):
            raise ValueError(f"the network has num_classes={classes}, but the conditions are of "
                             f"{self.conditions.num_classes} classes: make them equal")

    @classmethod
    def from_description(
        cls, *, network: Mapping, shape: tuple[int, ...], kind: str = "edm", schedule: Mapping | None = None,
        sigma_data: float = 0.5, conditions: Mapping | None = None, dtype: str | None = None,
        axis_name: AxisName = None,
    ) -> "DiffusionModel":
        """The model of plain values."""
        own, conditions = check_description("network", network), build_conditions(conditions, dtype)
        shape = check_counts("shape", shape)
        module = choose("network", own.pop("name"), NETWORKS)
        sizes = {"out_channels": shape[-1], "num_classes": conditions.num_classes}
        return cls(network=make_network(module, sizes, own, dtype), sample_shape=shape, kind=kind,
                   schedule=make_schedule(schedule), sigma_data=sigma_data, conditions=conditions)

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables."""
        network_key, condition_key = jax.random.split(key)
        params = self.conditions.init(condition_key)
        cond = self.encode(params, self.null(1))
        x = jnp.zeros((1, *example_shape))
        params["network"] = self.network.init(network_key, x, jnp.ones(1), **cond)["params"]
        return Variables(params, {})

    def denoise(
        self, params: PyTree, x: Float[Array, "B ..."], sigma: Float[Array, "..."],
        cond: Mapping[str, Array] | None = None, *, key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B ..."]:
        """x0 of x at noise level sigma [] or [B]; a key for dropout, in training."""
        options = {}
        if key is not None and getattr(self.network, "dropout", 0):
            options = {"train": True, "rngs": {"dropout": key}}

        def apply(xt, time, cond):
            return self.network.apply({"params": params["network"]}, xt, time, **cond, **options)

        cond = self.encode(params, cond)
        return precondition(apply, kind=self.kind, schedule=self.schedule, sigma_data=self.sigma_data)(x, sigma, cond)

    def encode(self, params: PyTree, cond: Mapping[str, Array] | None) -> dict[str, Any]:
        """cond whose text is encoded, for many calls of `denoise`."""
        return self.conditions.encode(params, cond)

    def null(self, count: int) -> dict[str, Any]:
        """The cond of `count` samples that stands for "no condition"."""
        return self.conditions.null(count)
