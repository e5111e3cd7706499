"""Preparing a TFDS set so that it is whole or absent, whoever else prepares it or is killed meanwhile."""

import contextlib
import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxgen.data import download


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS's warnings about its own choices (custom configurations, image decoders) off the terminal."""
    logger = logging.getLogger("absl")

    def only_errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(only_errors)
    try:
        yield
    finally:
        logger.removeFilter(only_errors)


@contextlib.contextmanager
def _progress_on_terminals_only() -> Iterator[None]:
    from tensorflow_datasets.core.utils import tqdm_utils

    before = getattr(tqdm_utils, "_active", True)
    tqdm_utils.display_progress_bar(before and sys.stderr.isatty())
    try:
        # TFDS prints where it writes and an "unknown size"; the bars, on stderr, say what is going on.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm_utils.display_progress_bar(before)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an advisory lock that the operating system releases when the process ends, however it ends."""
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except (ImportError, OSError):
        # Windows, or a place that cannot be written, where preparing says so itself. A set is renamed into place all
        # the same: without the lock, two preparations at once are wasteful, and the later one fails.
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(open_builder: Callable[[], Any]) -> Any:
    """Prepares a set unless it is there, and returns its builder.

    TFDS writes into a directory of its own and renames it when all is written, so a directory with the final name is
    whole. The lock makes a second process wait and then find the set; under the lock, what a killed process left is
    nobody's and is removed.

    Args:
        open_builder: makes the builder; called again after preparing, to read what was written.

    Returns:
        The builder of the prepared set.

    Raises:
        ImportError: if TFDS needs TensorFlow to prepare it, with the command that does it.
        PermissionError: if its directory cannot be written.
        ConnectionError: if it has to be downloaded, and cannot be.
    """
    with quiet():
        builder = open_builder()
        if builder.is_prepared():
            return builder
        root, target = str(builder.data_dir), Path(str(builder.data_dir))
        if "://" in root:
            _download_and_prepare(builder)
            return open_builder()
        _check_writable(Path(str(builder.data_dir_root)))
        with _locked(Path(str(builder.data_dir_root)) / f".jaxgen-{builder.name}.lock"):
            builder = open_builder()
            if not builder.is_prepared():
                for left in target.parent.glob(f"incomplete.*_{target.name}"):
                    shutil.rmtree(left, ignore_errors=True)
                _download_and_prepare(builder)
        return open_builder()


def _check_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise PermissionError(
            f"prepared data sets cannot be written to {root} ({error.strerror}): set the environment variable "
            "JAXGEN_DATA_DIR (for TFDS's own sets TFDS_DATA_DIR) to a directory that can be written, or pass data_dir="
        ) from error


def _download_and_prepare(builder: Any) -> None:
    import tensorflow_datasets as tfds

    download.check_first(builder)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _progress_on_terminals_only():
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except Exception as error:
        if _lacks_tensorflow(error):
            name = builder.info.full_name.rsplit("/", 1)[0]
            raise ImportError(
                f"TFDS needs TensorFlow to prepare {name!r} (once; reading it needs none). Prepare it with: "
                f"python -m pip install tensorflow && {download.command(builder)}"
            ) from error
        if download.failed(error):
            raise download.unreachable(builder, error) from error
        raise


def _lacks_tensorflow(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ImportError) and "tensorflow" in f"{error} {getattr(error, 'name', '')}".lower():
            return True
        error = error.__cause__ or error.__context__
    return False
