"""DiffAugment: random changes of the images that a discriminator sees, through which gradients flow.

Reference: Zhao et al., "Differentiable augmentation for data-efficient GAN training", 2020, arXiv:2006.10738
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_alike, choose
from jaxgen.core.keys import sample_keys


def diffaugment(
    key: Array, images: Float[Array, "B H W C"], *, policy: str | Sequence[str] = ("color", "translation", "cutout"),
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B H W C"]:
    """Augments images in [-1, 1]; use different keys for real and fake ones.

        color         + U(-1/2, 1/2); then saturation times U(0, 2) about the pixel's grey; then contrast times
                      U(1/2, 3/2) about the image's mean
        translation   by up to an eighth of the size, padded with zeros
        cutout        a square of half the size, anywhere, is set to zero

    Args:
        key: example i draws from fold_in(key, i).
        images: [B, H, W, C], floating point.
        policy: names of `POLICIES`, or one string with commas between them, "color,translation,cutout"; applied in the
            order of `POLICIES`, none for "".
        sample_ids: [B] positions in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Raises:
        ValueError: an unknown policy, or images that are whole numbers or not [B, H, W, C].

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import diffaugment
        >>> diffaugment(jax.random.key(0), jnp.zeros((2, 8, 8, 3)), policy="color,cutout").shape
        (2, 8, 8, 3)
    """
    check_alike(images=images)
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {images.shape}: colour, shifts and squares are those "
                         "of images")
    if isinstance(policy, str):
        policy = [name.strip() for name in policy.split(",") if name.strip()]
    for name in policy:
        choose("policy", name, POLICIES)
    keys = sample_keys(key, sample_ids, images.shape[0])
    for index, (name, change) in enumerate(POLICIES.items()):
        if name in policy:
            images = jax.vmap(lambda k, x, i=index, change=change: change(jax.random.fold_in(k, i), x))(keys, images)
    return images


def _color(key: Array, x: Array) -> Array:
    brightness, saturation, contrast = jax.random.uniform(key, (3,), x.dtype)
    x = x + brightness - 0.5
    grey = jnp.mean(x, axis=-1, keepdims=True)
    x = (x - grey) * 2 * saturation + grey
    mean = jnp.mean(x)
    return (x - mean) * (contrast + 0.5) + mean


def _translate(key: Array, x: Array) -> Array:
    limits = jnp.array([round(size / 8) for size in x.shape[:2]], jnp.int32)
    shift = jax.random.randint(key, (2,), -limits, limits + 1, jnp.int32)
    inside = []
    for axis, size in enumerate(x.shape[:2]):
        source = jnp.arange(size) - shift[axis]
        x = jnp.take(x, jnp.clip(source, 0, size - 1), axis=axis)
        inside.append((source >= 0) & (source < size))
    return jnp.where(_rectangle(*inside), x, 0)


def _cut_out(key: Array, x: Array) -> Array:
    sizes = [(size + 1) // 2 for size in x.shape[:2]]
    # The centre lies anywhere, so that the square may reach over the edge.
    ends = jnp.array([size + 1 - side % 2 for size, side in zip(x.shape[:2], sizes)], jnp.int32)
    centre = jax.random.randint(key, (2,), 0, ends, jnp.int32)
    hit = []
    for axis, size in enumerate(x.shape[:2]):
        first = centre[axis] - sizes[axis] // 2
        hit.append((jnp.arange(size) >= first) & (jnp.arange(size) < first + sizes[axis]))
    return jnp.where(_rectangle(*hit), 0, x)


def _rectangle(rows: Array, columns: Array) -> Array:
    """[H, W, 1] whether a pixel lies in a row and in a column that are chosen."""
    return rows[:, None, None] & columns[None, :, None]


POLICIES = {"color": _color, "translation": _translate, "cutout": _cut_out}
