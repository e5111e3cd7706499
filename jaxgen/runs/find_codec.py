"""The codec that a file names, by its digest."""

from pathlib import Path

from jaxgen.codec import Codec
from jaxgen.codec.tables_file import NAME, read_digests
from jaxgen.models.base import TokenGenerating
from jaxgen.runs.run import load
from jaxgen.runs.run_codec import FLOAT
from jaxgen.runs.shipped import locate, shipped, shipped_folder


def codec_of(digest: str, directory: str | Path | None = None) -> Codec:
    """The codec with which a file was written.

    Args:
        digest: of `jaxgen.codec.read_header`.
        directory: of a run or the name of a published checkpoint; None to look among the published ones.

    Raises:
        FileNotFoundError: none of them has this digest.
    """
    folders = list(shipped().values()) if directory is None else [locate(directory)]
    for folder in folders:
        for kind, own in _digests(folder).items():
            if own == digest:
                return load(folder).codec(kind)
    if directory is not None and (own := _float_codec(folders[0])) is not None and own.digest == digest:
        return own
    place = f"the checkpoints of {shipped_folder()}: give the directory of its run" if directory is None else folders[0]
    raise FileNotFoundError(f"the codec {digest} that wrote the file is not in {place}")


def fitted_kinds(directory: Path) -> tuple[str, ...]:
    """The kinds of probabilities that were fitted for a run, from plain to strong."""
    return tuple(_digests(directory))


def _float_codec(folder):
    """Of a token prior, for which nothing need be fitted."""
    run = load(folder)
    return run.codec(FLOAT) if isinstance(run.model, TokenGenerating) else None


def _digests(directory):
    return read_digests(directory / NAME) if (directory / NAME).exists() else {}
