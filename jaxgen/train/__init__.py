"""Training: state, pure steps, sharding, optimizers, checkpoints, logs and the loop.

This is the only package that imports optax, and `jaxgen.train.checkpoint` the only file that imports orbax.
"""

from jaxgen.extras import extra

with extra("train"):
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import PIL  # noqa: F401

from jaxgen.train.checkpoint import Checkpointer, Loaded, Restored, load
from jaxgen.train.compile import compile_step, pmap_step, replicate, unreplicate
from jaxgen.train.ema import ema_rate, update_ema
from jaxgen.train.gan_step import make_gan_step
from jaxgen.train.images import make_grid, save_grid, to_uint8
from jaxgen.train.logging import Logger, read_records
from jaxgen.train.loop import FitResult, NonFiniteError, fit, resume
from jaxgen.train.manifest import DamagedCheckpointError
from jaxgen.train.optimizers import make_optimizer, make_schedule
from jaxgen.train.run_directory import RunDirectory, open_run
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

__all__ = [
    "Adversary", "Checkpointer", "DamagedCheckpointError", "FitResult", "Loaded", "Logger", "NonFiniteError",
    "Restored", "RunDirectory", "TrainState", "batch_sharding", "compile_step", "ema_rate", "fit", "fsdp_sharding",
    "gather", "init_adversary", "init_state", "load", "make_gan_step", "make_grid", "make_mesh", "make_optimizer",
    "make_schedule", "make_train_step", "open_run", "pmap_step", "read_records", "replicate", "resume", "save_grid",
    "shard_batch", "shard_state", "state_sharding", "to_uint8", "unreplicate", "update_ema",
]
