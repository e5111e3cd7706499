"""Feature networks: bytes of images to the vectors whose distributions the distances of sets of images compare.

    network = inception_features(jaxgen.interop.load_inception(), resize="clean")
    of_samples = extract(network, samples)                                # float32 [N, 2048]
    distance_name(network), network.digest, str(network.handling)         # what a number must be reported with

A distance means nothing without the network, its weights and how bytes became its input: `FeatureNetwork` holds them.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial
from jaxtyping import Array, Float, UInt8
from tqdm import tqdm

from jaxgen import losses
from jaxgen.core.checks import check_count, choose
from jaxgen.core.cpu import compiler_options
from jaxgen.core.digest import digest
from jaxgen.core.pixels import bytes_to_floats
from jaxgen.core.types import PyTree, Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.resize import resize as resize_images
from jaxgen.losses import LpipsParams
from jaxgen.models import Classifying
from jaxgen.nn.inception import SIDE, InceptionV3

BATCH = 64
PRECISION = "highest"  # of products
INCEPTION = "InceptionV3"
SMALLEST_VGG = 64  # pixels along a side, which leave 4x4 positions after the last convolution
VGG_CONVOLUTIONS = 13
OF_TENSORFLOW, PLAIN = "(x - 128) / 128", "(2 x - 255) / 255"
REPEATED = "repeated over three channels"
# How bytes become the network's input, by the rule of resizing: the library that has the rule goes with a range.
RANGES = {"tensorflow": OF_TENSORFLOW, "clean": OF_TENSORFLOW, "pytorch": PLAIN}


class Handling(NamedTuple):
    """How bytes become a network's input."""

    size: str  # in pixels, such as "299x299"
    filter: str  # a rule of `jaxgen.evaluate.resize`, or "none"
    range: str  # of a byte x
    grey: str  # what becomes of images with one channel

    def __str__(self) -> str:
        return f"bytes -> {self.size} ({self.filter}) -> {self.range}, grey {self.grey}"


class Features(NamedTuple):
    """Of some images."""

    features: Float[Array, "B D"]
    logits: Float[Array, "B K"] | None  # of a network that tells classes apart


class FeatureNetwork(NamedTuple):
    """A network and all that its features depend on.

    Attributes:
        name: for example "InceptionV3".
        digest: SHA-256 of the weights, the same after each load.
        handling: how bytes become the network's input.
        apply: pure, `uint8 [B, H, W, C] -> Features`; a tree whose leaves are the weights, so that it can be an
            argument of a compiled function. `extract` calls it under `jax.default_matmul_precision("highest")`; so
            must who calls it elsewhere, for the same features on accelerators.
    """

    name: str
    digest: str
    handling: Handling
    apply: Callable[[UInt8[Array, "B H W C"]], Features]


def distance_name(network: FeatureNetwork) -> str:
    """What the Fréchet distance of these features is called: "FID" of Inception's only, of others "FD-<name>".

    Example:
        >>> from jaxgen.evaluate import FeatureNetwork, Handling, distance_name
        >>> distance_name(FeatureNetwork("VGG16-LPIPS", "", Handling("", "", "", ""), len))
        'FD-VGG16-LPIPS'
    """
    return "FID" if network.name == INCEPTION else f"FD-{network.name}"


def inception_features(params: PyTree, *, resize: str = "tensorflow") -> FeatureNetwork:
    """The features of FID, KID and the inception score: the last 2048 channels' means, and logits without the bias.

    Args:
        params: of `jaxgen.interop.load_inception`.
        resize: to 299x299, a rule of `jaxgen.evaluate.resize`: "tensorflow", as the original and torch-fidelity,
            "clean" as clean-fid, "pytorch" as pytorch-fid. Numbers by different rules do not compare.

    Raises:
        ValueError: an unknown rule.
    """
    handling = Handling(f"{SIDE}x{SIDE}", resize, choose("resize", resize, RANGES), REPEATED)
    apply = Partial(functools.partial(_inception, resize), params)
    return FeatureNetwork(INCEPTION, digest(params), handling, apply)


def classifier_features(model: Classifying, variables: Variables, *, name: str = "classifier") -> FeatureNetwork:
    """Features of a classifier trained here, for images that ImageNet has nothing like: its last maps' spatial means.

    Args:
        model: trained on images of the size and channels that are compared; nothing is resized.
        variables: its variables.
        name: as which it is reported.

    Raises:
        ValueError: the name is that of Inception.
    """
    if name == INCEPTION:
        raise ValueError(f"name={name!r} would make its distance an FID, which only Inception's is: choose another")
    handling = Handling("as they are", "none", PLAIN, "as it is")
    return FeatureNetwork(name, digest(tuple(variables)), handling,
                          Partial(functools.partial(_classifier, model), variables))


def vgg16_features(params: LpipsParams) -> FeatureNetwork:
    """Features of the VGG16 that LPIPS holds: the spatial means of its last stage's 512 channels, after relu5_3.

    Images with a side below 64 pixels are resized by the rule "clean" until the shorter side has 64; larger ones stay
    as they are, so that sets of different sizes do not compare.

    Args:
        params: of `jaxgen.interop.load_lpips(net="vgg")`.

    Raises:
        ValueError: they are another network's.
    """
    if len(params.convs) != VGG_CONVOLUTIONS:
        raise ValueError(f"params must be of VGG16, with {VGG_CONVOLUTIONS} convolutions, got {len(params.convs)}: "
                         "load_lpips(net='vgg') has them")
    handling = Handling(f"{SMALLEST_VGG} along a side at least", "clean", PLAIN, REPEATED)
    return FeatureNetwork("VGG16-LPIPS", digest(params.convs), handling, Partial(_vgg16, params))


def extract(
    network: FeatureNetwork, images: np.ndarray | Dataset | Iterable[np.ndarray], *, batch_size: int = BATCH,
    bar: bool = False,
) -> np.ndarray:
    """The features of all images, float32 [N, D]; see `extract_all`, which gives the logits too."""
    return extract_all(network, images, batch_size=batch_size, bar=bar).features


def extract_all(
    network: FeatureNetwork, images: np.ndarray | Dataset | Iterable[np.ndarray], *, batch_size: int = BATCH,
    bar: bool = False,
) -> Features:
    """The features and logits of all images, a batch at a time; images that are read or made as they come may be more
    than memory holds.

    A batch is divided over all devices of this process where their number divides it, and otherwise runs on one of
    them. The last one is filled up; neither this nor the batch size changes a feature.

    Args:
        network: of `inception_features` and so on.
        images: uint8 [N, H, W, C]; a data set of such; or an iterable of batches [b, H, W, C], of any sizes b.
        batch_size: images at a time.
        bar: shows progress on a terminal.

    Returns:
        NumPy arrays, float32.

    Raises:
        ValueError: the images are not uint8 [N, H, W, C], or there are none.
    """
    size = check_count("batch_size", batch_size)
    total = len(images) if isinstance(images, Dataset | np.ndarray | Array) else None
    if total is not None:
        size = max(1, min(size, total))
    devices = jax.local_devices()
    apply, placed = network.apply, None
    if len(devices) > 1 and size % len(devices) == 0:
        mesh = Mesh(np.array(devices), ("images",))
        placed = NamedSharding(mesh, PartitionSpec("images"))
        apply = jax.device_put(apply, NamedSharding(mesh, PartitionSpec()))
    run = jax.jit(_call, compiler_options=compiler_options())

    def computed() -> Iterator[tuple[Features, int]]:
        for batch in tqdm(_split(images, size), total=total and math.ceil(total / size), unit="batch",
                          disable=None if bar else True):
            count = len(batch)
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
            # Of less than float32, as accelerators multiply by default, features differ in the third digit.
            with jax.default_matmul_precision(PRECISION):
                result = run(apply, jax.device_put(batch, placed))
            yield result, count

    results: list[Features] = []
    # A batch is fetched when the next one is under way, so that images are read while the devices work.
    for (result, count), _ in itertools.pairwise(itertools.chain(computed(), [(None, 0)])):
        results.append(jax.tree.map(lambda x, count=count: np.asarray(x, np.float32)[:count], result))
    if not results:
        raise ValueError("images must hold one image at least, got none")
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _call(apply: Callable[[Array], Features], images: Array) -> Features:
    return apply(images)


def _split(images: Any, size: int) -> Iterator[np.ndarray]:
    """Batches of at most `size` images."""
    if isinstance(images, Dataset):
        for start in range(0, len(images), size):
            yield _checked(images.take(np.arange(start, min(start + size, len(images))))[images.example])
    elif isinstance(images, np.ndarray | Array):
        _checked(images)
        for start in range(0, len(images), size):
            yield np.asarray(images[start : start + size])
    else:
        for batch in images:
            yield from _split(np.asarray(batch), size)


def _checked(images: Any) -> Any:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}: bytes of floats "
                         "in [-1, 1] are jaxgen.data.to_uint8's")
    return images


def _colour(images: Array) -> Array:
    """[B, H, W, 3]."""
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have one channel or three, got {images.shape}: drop what is no colour")
    return jnp.broadcast_to(images, (*images.shape[:3], 3))


def _inception(resize: str, params: PyTree, images: Array) -> Features:
    x = resize_images(_colour(_checked(images)), (SIDE, SIDE), resize)
    x = (x - 128) / 128 if RANGES[resize] == OF_TENSORFLOW else (2 * x - 255) / 255
    result = InceptionV3().apply({"params": params}, x)
    return Features(result.pool2048, result.logits_unbiased)


def _classifier(model: Classifying, variables: Variables, images: Array) -> Features:
    x = bytes_to_floats(_checked(images))
    last = model.features(variables, x)[-1].astype(jnp.float32)
    return Features(jnp.mean(last, axis=tuple(range(1, last.ndim - 1))), model.logits(variables, x))


def _vgg16(params: LpipsParams, images: Array) -> Features:
    x = _colour(_checked(images))
    factor = SMALLEST_VGG / min(x.shape[1:3])
    if factor > 1:
        x = resize_images(x, tuple(round(side * factor) for side in x.shape[1:3]), "clean")
    x = (2 * x.astype(jnp.float32) - 255) / 255
    last = losses.lpips_features(params, x)[-1].astype(jnp.float32)
    return Features(jnp.mean(last, axis=(1, 2)), None)
