"""A run's directory and its checkpoints, and reading runs back. Only `jaxgen.runs.checkpoint` imports orbax.

    run = jaxgen.runs.load("runs/digits")
    images = run.sample(16, classes=[3, 5])
"""

from jaxgen.core.extras import extra

with extra("train"):
    import optax  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import PIL  # noqa: F401

from jaxgen.runs._efficiency import efficiency
from jaxgen.runs.checkpoint import Checkpointer, Loaded, Restored, read_run
from jaxgen.runs.directory import RunDirectory, check_run, expand, open_run
from jaxgen.runs.find_codec import codec_of, fitted_kinds
from jaxgen.runs.first_stage import FirstStage, find_first_stage
from jaxgen.runs.listing import Comparison, RunSummary, best, compare, find_runs, summarize
from jaxgen.runs.lock import Holder, LockedRunError, holder, lock_run
from jaxgen.runs.manifest import DamagedCheckpointError
from jaxgen.runs.measures import compare_samples, feature_network, load_classifier, measure
from jaxgen.runs.published import card_of, default_evaluations, publish
from jaxgen.runs.run import Run, abilities, load, load_split, reconstructor
from jaxgen.runs.shipped import locate, shipped, shipped_folder
from jaxgen.runs.weights_file import digest_of_file, is_published

__all__ = [
    "Checkpointer",
    "Comparison",
    "DamagedCheckpointError",
    "FirstStage",
    "Holder",
    "Loaded",
    "LockedRunError",
    "Restored",
    "Run",
    "RunDirectory",
    "RunSummary",
    "abilities",
    "best",
    "card_of",
    "check_run",
    "codec_of",
    "compare",
    "compare_samples",
    "default_evaluations",
    "digest_of_file",
    "efficiency",
    "expand",
    "feature_network",
    "find_first_stage",
    "find_runs",
    "fitted_kinds",
    "holder",
    "is_published",
    "load",
    "load_classifier",
    "load_split",
    "locate",
    "lock_run",
    "measure",
    "open_run",
    "publish",
    "read_run",
    "reconstructor",
    "shipped",
    "shipped_folder",
    "summarize",
]
