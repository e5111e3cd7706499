"""The two objectives of a VQGAN (Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis",
2021): the autoencoder's, which is VQ-VAE's with a perceptual and an adversarial term, and the discriminator's.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_alike
from jaxgen.core.keys import global_positions
from jaxgen.core.mapped import vary_like
from jaxgen.core.types import AxisName, Variables
from jaxgen.losses.adversarial import GanLoss, hinge, per_example
from jaxgen.losses.balance import adaptive_weight, ramp
from jaxgen.losses.penalties import LecamState, compute_if, gradient_penalty, lazy, lecam, r1
from jaxgen.losses.reconstruction import l1
from jaxgen.objectives.batch import get_example
from jaxgen.objectives.vqvae import quantizer_loss

PyTree = Any
HINGE = hinge()
Distance = Callable[[Array, Array], Float[Array, "B"]]
Augment = Callable[[Array, Array], Array]
"""(key, images) -> images, such as `diffaugment`."""


def vqgan_generator_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    discriminator_params: PyTree,
    step: Int[Array, ""],
    forward: Callable,
    discriminate: Callable,
    gan: GanLoss = HINGE,
    reconstruction: Distance = l1,
    perceptual: Distance | None = None,
    perceptual_weight: float = 1.0,
    gan_weight: float = 1.0,
    last_layer: Sequence[str | int] | None = ("decoder", "conv_out", "kernel"),
    start: int = 0,
    ramp_steps: int = 0,
    augment: Augment | None = None,
    num_codes: int | Mapping[str, int] | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "image",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree, Float[Array, "B H W C"]]]:
    """nll + w gan_weight ramp(step) G + the quantizers' own losses.

        nll = mean(reconstruction(x, x_r) + perceptual_weight perceptual(x, x_r)),   G = mean(generator(D(x_r)))
        w = |dnll/dK| / (|dG/dK| + 1e-4), K the kernel of the decoder's last layer  (`adaptive_weight`); 1 without K

    One pass through the generator and one back: both terms reach it through x_r, so that their gradients in the
    images are added before they go back, and those of K cost only the last layer.

    Args:
        params: the autoencoder's parameters, differentiated by the caller.
        state: the quantizers' state.
        batch: {"image": [B, ...] in [-1, 1]}.
        key: the step's key, for the quantizers and the augmentation.
        discriminator_params: constants here.
        step: updates done so far; traced.
        forward: `(Variables, x, *, train, key) -> (x_r, QuantizeOutput or a dict of them, state)`.
        discriminate: `(discriminator_params, images) -> logits [B, ...]`.
        gan: the pair whose generator's half is taken.
        reconstruction: `(x, x_r) -> [B]`.
        perceptual: `(x, x_r) -> [B]`, for example `partial(lpips, lpips_params)`; None for none.
        perceptual_weight: see above.
        gan_weight: see above.
        last_layer: where K is in `params`: keys of dicts, positions in lists and tuples, names of fields; None for a
            fixed weight.
        start: the first step with the adversarial term.
        ramp_steps: over how many steps it rises to its full weight.
        augment: of what the discriminator sees.
        num_codes: where given, the metrics include the codes' perplexity in the batch.
        train: False leaves the quantizers' state as it is.
        axis_name: the mapped axis of devices, over which w and perplexity are one.
        entry: which entry of the batch is the example.

    Returns:
        (loss [], (metrics, state, x_r)): x_r is what the discriminator's objective takes as `fake`.

    Raises:
        ValueError: the batch has no such entry, it holds whole numbers, or `last_layer` is no path in `params`.
    """
    x = get_example(batch, entry)
    quantizer_key, augment_key = jax.random.split(key)

    kernel, with_kernel = _part(params, last_layer)

    def generate(kernel):
        variables = Variables(with_kernel(kernel), state)
        x_r, outputs, new_state = forward(variables, x, train=train, key=quantizer_key)
        return x_r, (outputs, new_state)

    def nll(fake):
        distance = reconstruction(x, fake)
        terms = {"reconstruction": jnp.mean(distance)}
        if perceptual is not None:
            distance = distance + perceptual_weight * (values := perceptual(x, fake))
            terms["perceptual"] = jnp.mean(values)
        return jnp.mean(distance), terms

    def adversarial(fake):
        seen = fake if augment is None else augment(augment_key, fake)
        return jnp.mean(gan.generator(discriminate(discriminator_params, seen)))

    # Under shard_map the gradient in a kernel that all devices share would be a sum over them, not this device's own.
    kernel = [vary_like(leaf, x) for leaf in kernel]
    x_r, pull, (outputs, state) = jax.vjp(generate, kernel, has_aux=True)
    constant = jax.lax.stop_gradient(x_r)
    (nll_value, terms), nll_grad = jax.value_and_grad(nll, has_aux=True)(constant)
    gan_value, gan_grad = compute_if(step >= start, lambda: jax.value_and_grad(adversarial)(constant))
    weight = jnp.float32(1.0)
    if last_layer is not None:
        weight = adaptive_weight(pull(nll_grad), pull(gan_grad), axis_name=axis_name)
    weight = weight * gan_weight * ramp(step, start, ramp_steps)
    loss = _with_gradient(nll_value + weight * gan_value, x_r, nll_grad + weight * gan_grad)
    penalty, metrics = quantizer_loss(outputs, num_codes, axis_name)
    metrics = {**terms, "adversarial": gan_value, "gan_weight": weight, **metrics}
    return loss + penalty, (metrics, state, constant)


def vqgan_discriminator_loss(
    params: PyTree,
    state: LecamState,
    batch: Mapping[str, Array],
    fake: Float[Array, "B H W C"],
    key: Array,
    *,
    step: Int[Array, ""],
    discriminate: Callable,
    gan: GanLoss = HINGE,
    augment: Augment | None = None,
    r1_weight: float = 0.0,
    r1_every: int = 16,
    gradient_penalty_weight: float = 0.0,
    lecam_weight: float = 0.0,
    lecam_decay: float = 0.999,
    axis_name: AxisName = None,
    entry: str = "image",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], LecamState]]:
    """mean(discriminator(D(x), D(x_r))) + r1_weight / 2 mean(|dD/dx|²) + gradient_penalty_weight mean((|dD/du| - 1)²)
    + lecam_weight mean(LeCam), where u lies between real and fake images (`gradient_penalty`).

    Args:
        params: the discriminator's parameters, differentiated by the caller.
        state: LeCam's averages of logits (`lecam_init`).
        batch: {"image": [B, ...] in [-1, 1]}.
        fake: what the generator made of it; a constant.
        key: for the augmentation, of which real and fake images take draws of their own, and the gradient penalty.
        step: updates done so far, for lazy R1; traced.
        discriminate: `(params, images) -> logits [B, ...]`.
        gan: the pair whose discriminator's half is taken.
        augment: of both.
        r1_weight: gamma of R1, at the real images as they are seen; 0 leaves it out.
        r1_every: only every such update takes it, r1_every times (`lazy`); its metric is 0 at the others.
        gradient_penalty_weight: 10 in the paper of Wasserstein's loss with it; 0 leaves it out.
        lecam_weight: 0 leaves it out.
        lecam_decay: of the averages.
        axis_name: the mapped axis of devices, over which LeCam's averages are one.
        entry: which entry of the batch is the real example.

    Returns:
        (loss [], (metrics, state)).

    Raises:
        ValueError: the batch has no such entry, it or `fake` holds whole numbers, their shapes differ, or r1_every is
            below 1.
    """
    real = get_example(batch, entry)
    check_alike(**{f"batch[{entry!r}]": real, "fake": fake})
    if augment is not None:
        real_key, fake_key = jax.random.split(key)
        real, fake = augment(real_key, real), augment(fake_key, fake)
    real_logits, fake_logits = (discriminate(params, images) for images in (real, fake))
    loss = jnp.mean(gan.discriminator(real_logits, fake_logits))
    metrics = {
        "discriminator": loss,
        "real_logits": jnp.mean(per_example(real_logits)),
        "fake_logits": jnp.mean(per_example(fake_logits)),
    }
    if r1_weight:
        metrics["r1"] = jnp.mean(lazy(step + 1, r1_every, lambda: r1(lambda x: discriminate(params, x), real)))
        loss += r1_weight / 2 * metrics["r1"]
    if gradient_penalty_weight:
        positions, _ = global_positions(real.shape[0], axis_name)
        metrics["gradient_penalty"] = jnp.mean(gradient_penalty(
            jax.random.fold_in(key, 1), lambda x: discriminate(params, x), real, fake, sample_ids=positions))
        loss += gradient_penalty_weight * metrics["gradient_penalty"]
    if lecam_weight:
        values, state = lecam(state, real_logits, fake_logits, decay=lecam_decay, axis_name=axis_name)
        metrics["lecam"] = jnp.mean(values)
        loss += lecam_weight * metrics["lecam"]
    return loss, (metrics, state)


def _with_gradient(value: Array, x: Array, gradient: Array) -> Array:
    """`value`, whose gradient in x is `gradient`."""
    surrogate = jnp.sum(x * jax.lax.stop_gradient(gradient))
    return jax.lax.stop_gradient(value - surrogate) + surrogate


def _part(params: PyTree, path: Sequence[str | int] | None) -> tuple[list[Array], Callable[[list[Array]], PyTree]]:
    """(the leaves below a path, `(leaves) -> params` with these instead); no leaves for None."""
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves, paths = [leaf for _, leaf in flat], [tuple(_name(key) for key in keys) for keys, _ in flat]
    path = None if path is None else tuple(path)
    below = [i for i, names in enumerate(paths) if path is not None and names[: len(path)] == path]
    if path is not None and not below:
        depth = max((sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(names, path))) for names in paths),
                    default=0)
        has = sorted({names[depth] for names in paths if names[:depth] == path[:depth] and len(names) > depth}, key=str)
        raise ValueError(f"last_layer={path} is no path in params: below {path[:depth]} is {has or 'an array'}")

    def with_part(part):
        new = dict(zip(below, part))
        return structure.unflatten([new.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in below], with_part


def _name(key: Any) -> Any:
    """The key of a dict, the position in a sequence or the name of a field that one step of a path stands for."""
    return next(getattr(key, field) for field in ("key", "idx", "name") if hasattr(key, field))
