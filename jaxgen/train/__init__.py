"""Training: state, pure steps, the loop, optimizers, averages, sharding. The only package that imports optax."""

from jaxgen.core.extras import extra

with extra("train"):
    import optax  # noqa: F401

from jaxgen.train.compile import compile_step, pmap_step, replicate, unreplicate
from jaxgen.train.ema import ema_rate, update_ema
from jaxgen.train.finite import NonFiniteError
from jaxgen.train.gan_step import make_gan_step
from jaxgen.train.loop import FitResult, fit, resume
from jaxgen.train.optimizers import make_optimizer, make_schedule
from jaxgen.train.power_ema import power_ema_update, power_gamma, reconstruct, reconstruction_weights
from jaxgen.train.profile import Profile, profile_window
from jaxgen.train.sharding import (
    batch_sharding,
    fsdp_sharding,
    gather,
    make_mesh,
    shard_batch,
    shard_state,
    state_sharding,
)
from jaxgen.train.state import Adversary, TrainState, init_adversary, init_state
from jaxgen.train.step import make_train_step
from jaxgen.train.summary import dry_run, largest_parts, memory_estimate, parameter_table, time_step

__all__ = [
    "Adversary", "FitResult", "NonFiniteError", "Profile", "TrainState", "batch_sharding", "compile_step",
    "dry_run", "ema_rate", "fit", "fsdp_sharding", "gather", "init_adversary", "init_state", "largest_parts",
    "make_gan_step", "make_mesh", "make_optimizer", "make_schedule", "make_train_step", "memory_estimate",
    "parameter_table", "pmap_step", "power_ema_update", "power_gamma", "profile_window", "reconstruct",
    "reconstruction_weights", "replicate", "resume", "shard_batch", "shard_state", "state_sharding", "time_step",
    "unreplicate", "update_ema",
]
