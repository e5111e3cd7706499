"""Features of the set that samples are compared with, computed once and kept in a file that says whose they are.

    reference = reference_statistics(network, dataset)          # from ~/.cache/jaxgen/features, where it is filled
    mu, sigma = read_statistics("cifar10-train.npz")            # published ones, of other libraries

A file is read for the same images, split, network, weights and handling only.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxgen.core.cache import cache_directory
from jaxgen.core.checks import check_finite
from jaxgen.core.json_file import parse_object
from jaxgen.core.whole_file import whole_file
from jaxgen.data import Dataset
from jaxgen.evaluate.features import BATCH, FeatureNetwork, extract
from jaxgen.metrics import Moments, covariance, moments

SUFFIX = ".npz"
READ = 1000  # images at a time, for their digest
DIGITS = 16  # of the key's digest in a file's name
SYMMETRIC = 1e-6  # of the largest entry


class ReferenceKey(NamedTuple):
    """All that reference features depend on."""

    data: str  # SHA-256 of the images, in order
    split: str
    network: str
    weights: str  # SHA-256
    handling: str


class Reference(NamedTuple):
    """Features of a set of images, and the moments that the Fréchet distance compares."""

    key: ReferenceKey
    features: Float[np.ndarray, "N D"]  # float32
    mean: Float[np.ndarray, "D"]  # float64
    cov: Float[np.ndarray, "D D"]  # float64, sums of squares divided by N - 1

    def moments(self) -> Moments:
        """As `jaxgen.metrics.frechet_distance` takes them."""
        return Moments(len(self.features), self.mean, self.cov * (len(self.features) - 1))


def reference_statistics(
    network: FeatureNetwork, dataset: Dataset, *, directory: str | Path | None = None, batch_size: int = BATCH,
    bar: bool = False,
) -> Reference:
    """The features of a data set's images: read where they lie, and otherwise computed and written there.

    The images are read in any case, since they tell whether the file is theirs.

    Args:
        network: of `inception_features` and so on.
        dataset: of images.
        directory: of the files; None: `$JAXGEN_CACHE`/features, or ~/.cache/jaxgen/features.
        batch_size: images at a time.
        bar: shows progress on a terminal.

    Raises:
        ValueError: the set holds no images or fewer than two, or the file is damaged; says to delete it.
    """
    key = reference_key(network, dataset)
    if directory is None:
        directory = cache_directory("features", "reference features")
    name = re.sub(r"[^\w.-]+", "_", f"{dataset.name}-{dataset.split}-{network.name}")
    code = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:DIGITS]
    path = Path(directory) / f"{name}-{code}{SUFFIX}"
    if path.is_file():
        return read_reference(path, key)
    features = extract(network, dataset, batch_size=batch_size, bar=bar)
    if len(features) < 2:
        raise ValueError(f"dataset must hold two images at least, got {len(features)}: one has no covariance")
    found = moments(features)
    result = Reference(key, features, found.mean, covariance(found))
    write_reference(path, result)
    return result


def reference_key(network: FeatureNetwork, dataset: Dataset) -> ReferenceKey:
    """What the features of a network of a data set depend on; reads all images."""
    result = hashlib.sha256(f"{len(dataset)} {dataset.example_shape}\n".encode())
    for start in range(0, len(dataset), READ):
        images = dataset.take(np.arange(start, min(start + READ, len(dataset))))[dataset.example]
        result.update(np.ascontiguousarray(images).tobytes())
    return ReferenceKey(result.hexdigest(), dataset.split, network.name, network.digest, str(network.handling))


def write_reference(path: str | Path, reference: Reference) -> None:
    """Writes features with all that they depend on; the file is whole or not there.

    Raises:
        ValueError: the path does not end in .npz.
    """
    _write(Path(path), {"key": np.array(json.dumps(reference.key._asdict())), "features": reference.features,
                        "mean": reference.mean, "cov": reference.cov})


def read_reference(path: str | Path, key: ReferenceKey | None = None) -> Reference:
    """What `write_reference` wrote.

    Args:
        path: of the file.
        key: of `reference_key`, what the features are wanted for; None takes the file's.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged or no such file, or its features are of something else than the key says; names what
            differs.
    """
    arrays = _read(Path(path), ("key", "features", "mean", "cov"))
    content = parse_object(str(arrays["key"]).encode(), f"the key in {path}")
    if set(content) != set(ReferenceKey._fields):
        raise ValueError(f"the key in {path} must have {', '.join(ReferenceKey._fields)}, got {', '.join(content)}: "
                         "delete the file")
    found = ReferenceKey(**content)
    if key is not None and found != key:
        differs = "; ".join(f"{name} is {theirs!r} there, and {wanted!r} is wanted"
                            for name, theirs, wanted in zip(key._fields, found, key) if theirs != wanted)
        raise ValueError(f"{path} has the features of something else: {differs}. Delete it, or give another directory")
    features = arrays["features"]
    if features.ndim != 2 or features.dtype != np.float32:
        raise ValueError(f"features in {path} must be float32 [N, D], got {features.dtype} {list(features.shape)}: "
                         "delete the file")
    _check_moments(arrays["mean"], arrays["cov"], ("mean", "cov"), path)
    if arrays["mean"].shape != features.shape[1:]:
        raise ValueError(f"{path} has features {list(features.shape)} and a mean {list(arrays['mean'].shape)}, which "
                         "do not belong together: delete the file")
    return Reference(found, features, arrays["mean"], arrays["cov"])


def write_statistics(path: str | Path, mu: Float[np.ndarray, "D"], sigma: Float[np.ndarray, "D D"]) -> None:
    """Writes a mean and a covariance as pytorch-fid and ADM's evaluator read them: "mu" and "sigma", float64.

    Raises:
        ValueError: the path does not end in .npz, or they are no mean and covariance.
    """
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    _check_moments(mu, sigma, ("mu", "sigma"), "the arguments")
    _write(Path(path), {"mu": mu, "sigma": sigma})


def read_statistics(path: str | Path) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D D"]]:
    """The mean and the covariance, float64, out of a file of pytorch-fid or of ADM's evaluator.

    Such a file does not say which images, weights and resizing they are of: its publisher has to. What else it holds,
    as images or spatial statistics, is not read.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged or no such file, or needs unpickling.
    """
    arrays = _read(Path(path), ("mu", "sigma"))
    mu, sigma = (arrays[name].astype(np.float64) for name in ("mu", "sigma"))
    _check_moments(mu, sigma, ("mu", "sigma"), path)
    return mu, sigma


def _check_moments(mean: np.ndarray, cov: np.ndarray, names: tuple[str, str], source: str | Path) -> None:
    if mean.ndim != 1 or cov.shape != mean.shape * 2:
        raise ValueError(f"{names[0]} and {names[1]} of {source} must be [D] and [D, D], got {list(mean.shape)} and "
                         f"{list(cov.shape)}")
    for name, values in zip(names, (mean, cov)):
        check_finite(f"{name} of {source}", values)
    if np.abs(cov - cov.T).max(initial=0) > SYMMETRIC * np.abs(cov).max(initial=0):
        raise ValueError(f"{names[1]} of {source} must be symmetric, as a covariance is")


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if path.suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX}, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        np.savez(unfinished, **arrays)


def _read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of an archive, of which nothing is unpickled."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged, or no archive of NumPy: delete it, or fetch it again")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}, and has {', '.join(archive)}")
            return {name: archive[name] for name in names}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or not such a file ({error}): delete it, or fetch it again") from error
