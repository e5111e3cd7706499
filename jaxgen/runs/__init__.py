"""A run's directory and its checkpoints, and reading a run back. `jaxgen.runs.checkpoint` alone imports orbax."""

from jaxgen.core.extras import extra

with extra("train"):
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import PIL  # noqa: F401

from jaxgen.runs.checkpoint import Checkpointer, Loaded, Restored, load
from jaxgen.runs.directory import RunDirectory, open_run
from jaxgen.runs.manifest import DamagedCheckpointError

__all__ = ["Checkpointer", "DamagedCheckpointError", "Loaded", "Restored", "RunDirectory", "load", "open_run"]
