"""What a script that uses a trained model is given, a run's directory or a checkpoint's name, and where it writes."""

from pathlib import Path

from jaxgen import runs

SAMPLES = "samples"  # the folder for what is made of published checkpoints, whose directories stay as they are


def load_trained(workdir: str | None, checkpoint: str | None, step: int | None = None) -> tuple[runs.Run, Path]:
    """(the run or the published checkpoint, the folder for what is made of it unless an option says another place).

    Args:
        workdir, checkpoint: the values of the options, of which one is None.
        step: of the run's checkpoint; None for the newest.
    """
    run = runs.load(workdir if checkpoint is None else checkpoint, step=step)
    return run, Path(SAMPLES) / run.path.name if runs.is_published(run.path) else run.path
