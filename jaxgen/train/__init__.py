"""Training: state, pure steps, sharding, optimizers, checkpoints, logs and the loop.

This is the only package that imports optax, and `jaxgen.train.checkpoint` the only file that imports orbax.
"""

from jaxgen.train.checkpoint import Checkpointer, Loaded, Restored, load
from jaxgen.train.compile import compile_step, pmap_step, replicate, unreplicate
from jaxgen.train.ema import ema_rate, update_ema
from jaxgen.train.loop import FitResult, NonFiniteError, fit, resume
from jaxgen.train.manifest import DamagedCheckpointError
from jaxgen.train.optimizers import make_optimizer, make_schedule
from jaxgen.train.sharding import batch_sharding, fsdp_sharding, make_mesh, shard_batch, shard_state, state_sharding
from jaxgen.train.state import TrainState, init_state
from jaxgen.train.step import make_train_step

__all__ = [
    "Checkpointer", "DamagedCheckpointError", "FitResult", "Loaded", "NonFiniteError", "Restored", "TrainState",
    "batch_sharding", "compile_step", "ema_rate", "fit", "fsdp_sharding", "init_state", "load", "make_mesh",
    "make_optimizer", "make_schedule", "make_train_step", "pmap_step", "replicate", "resume", "shard_batch",
    "shard_state", "state_sharding", "unreplicate", "update_ema",
]
