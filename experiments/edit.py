"""Edit pictures with a trained diffusion model, latent or not, or fill in their codes with a token prior.

    python -m experiments.edit inpaint --workdir=runs/digits                       # held-out pictures, lower half
    python -m experiments.edit inpaint --workdir=runs/digits --images=my/pictures --mask=mask.png
    python -m experiments.edit image --workdir=runs/digits --images=scribbles --strength=0.6 --classes=7
    python -m experiments.edit invert --workdir=runs/digits --classes=3            # to noise, and back as a 3
    python -m experiments.edit interpolate --workdir=runs/digits

The sheet's rows: what was given, then what became of it. In a mask picture white is kept and black is painted anew;
kept pixels come back exactly. A latent model keeps the latents of which all pixels are kept, and so does a token prior
its codes, which inpaints alone. An autoregressive one draws each missing code knowing those before it in row-major
order, drawn or kept, and not the kept codes that come after it: it completes a lower half well, but an upper half
without having seen the lower one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command_line
from experiments.conditions import batch_condition, to_condition, with_text
from experiments.finite import blank, check_all, check_any, finite_images
from experiments.masks import hide, kept_positions
from experiments.runs import load_split, read_folder, spread
from experiments.sampling import DiffusionSampler, guided, load_sampler
from experiments.token_sampling import TokenSampler
from jaxgen import data, diffusion, show
from jaxgen.core.cpu import compiler_options
from jaxgen.core.errors import unknown_name
from jaxgen.data.image_file import read_image

ACTIONS = ("inpaint", "image", "invert", "interpolate")
BETWEEN = 8  # pictures from one end of an interpolation to the other


def compiled(edit: Callable, sampler: DiffusionSampler, **settings: Any) -> Callable:
    """One of the diffusion edits below, for one sampler and these settings: one program for pictures of one shape."""
    return jax.jit(partial(edit, sampler, **settings), compiler_options=compiler_options())


def inpaint(sampler: DiffusionSampler, params: Any, key: jax.Array, x0: jax.Array, mask: jax.Array, cond: Mapping, *,
            resample: int) -> jax.Array:
    """x0 [B, H, W, C] anew where `mask` [B, H, W, 1] is False: RePaint, `resample` rounds a step."""
    solver = diffusion.repaint(sampler.solver, x0, mask, resample=resample)
    x = diffusion.prior_sample(key, x0.shape, sampler.sigmas[0])
    denoiser = guided(sampler.model, params, cond, len(x0), sampler.guidance)
    return diffusion.sample(denoiser, solver, sampler.sigmas, x, key, cond=sampler.model.encode(params, cond))


def change(sampler: DiffusionSampler, params: Any, key: jax.Array, x0: jax.Array, cond: Mapping, *,
           strength: float) -> jax.Array:
    """Image to image (SDEdit): noise up to a share `strength` of the steps, and sample from there."""
    denoiser = guided(sampler.model, params, cond, len(x0), sampler.guidance)
    return diffusion.sdedit(denoiser, sampler.solver, sampler.sigmas, x0, key, strength=strength,
                            cond=sampler.model.encode(params, cond))


def to_noise(sampler: DiffusionSampler, params: Any, x0: jax.Array, cond: Mapping) -> jax.Array:
    """The noise, at the grid's first level, from which the model's own path (without guidance) leads to x0."""
    denoiser = guided(sampler.model, params, cond, len(x0), None)
    return diffusion.invert(denoiser, sampler.solver, sampler.sigmas, x0, cond=sampler.model.encode(params, cond))


def from_noise(sampler: DiffusionSampler, params: Any, x: jax.Array, cond: Mapping) -> jax.Array:
    """The end of the model's own path (without guidance) from noise at the grid's first level."""
    denoiser = guided(sampler.model, params, cond, len(x), None)
    return diffusion.sample(denoiser, sampler.solver, sampler.sigmas, x, jax.random.key(0),
                            cond=sampler.model.encode(params, cond))


def fill_in(sampler: TokenSampler, variables: Any, key: jax.Array, x0: jax.Array, mask: jax.Array,
            cond: Mapping) -> jax.Array:
    """Pictures from codes, of which those stay whose pixels are all kept.

    What an autoregressive prior fills in knows nothing of the kept codes that come after it.
    """
    shape, count = sampler.model.shape, len(x0)
    encode = jax.jit(sampler.model.tokens, compiler_options=compiler_options())
    known = encode(variables.state, hide(x0, mask))
    kept = jnp.repeat(kept_positions(mask, shape).reshape(count, -1), prod(shape[2:]), axis=1)
    return sampler.tokens(variables, key, jnp.arange(count), cond, known=known, mask=kept)[0]


def read_mask(path: str | None, shape: tuple[int, int, int]) -> np.ndarray:
    """[1, H, W, 1] True where white or transparent: an image of the model's size, or its upper half without one.

    Raises:
        ValueError: the image has another size, or cannot be read.
    """
    height, width, _ = shape
    if path is None:
        return (np.arange(height) < height // 2)[None, :, None, None] & np.ones((1, 1, width, 1), bool)
    picture = read_image(path).convert("L")
    if picture.size != (width, height):
        raise ValueError(f"--mask={path} has {picture.size[0]}x{picture.size[1]} pixels, but this model's have "
                         f"{width}x{height}: give a mask of that size")
    return (np.asarray(picture) >= 128)[None, :, :, None]


def main(action: str, *, workdir: str, step: int | None, images: str | None, mask: str | None, count: int, seed: int,
         classes, prompt, strength: float, resample: int, output: str | None, scale: int, **changes) -> None:
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    if mask is not None and action != "inpaint":
        raise ValueError(f"--mask={mask} belongs to inpaint, not to {action}")
    sampler, loaded, variables = load_sampler(workdir, changes, step=step)
    if action != "inpaint" and isinstance(sampler, TokenSampler):
        raise ValueError(f"edit {action} needs a diffusion model, and the run in {workdir} is a token prior: use "
                         "inpaint")

    # 1. The pictures: held-out ones with their own conditions, or the user's without. Those asked for come before both.
    model, shape, params = loaded.model, tuple(loaded.config["image_shape"]), variables.params
    dataset = read_folder(Path(images), shape) if images else load_split(loaded.config)
    dataset = dataset if images else with_text(dataset, model.text_length)
    count = min(count, len(dataset))
    if action == "interpolate" and count < 2:
        raise ValueError(f"interpolate goes from one picture to another and needs two, got {count}")
    if action == "interpolate" and count % 2:
        raise ValueError(f"interpolate takes images in pairs, and of {count} it would leave one out: use "
                         f"--count={count - 1}, or one more image")
    batch = spread(dataset, count)
    x0, key = data.to_float(batch["image"]), jax.random.key(seed)
    own = model.null(count) if images else batch_condition(model, batch)
    asked = classes is not None or prompt is not None
    names = loaded.config["class_names"]
    cond = to_condition(model, count, classes=classes, prompts=prompt, names=names) if asked else own

    # 2. The rows of the sheet; a latent model works between encoder and decoder.
    if isinstance(sampler, DiffusionSampler):
        diffused, pictures, known = (partial(jax.jit(f, compiler_options=compiler_options()), variables.state)
                                     for f in (sampler.diffused, sampler.pictures, sampler.known))
    if action == "inpaint":
        kept = np.broadcast_to(read_mask(mask, shape), (count, *shape[:2], 1))
        if sampler.shape[:2] != shape[:2] and not kept_positions(kept, sampler.shape).any():
            block = f"{shape[0] // sampler.shape[0]}x{shape[1] // sampler.shape[1]}"
            raise ValueError(f"--mask={mask} keeps no whole block of {block} pixels, which one position of the "
                             f"{loaded.config['model']['name']!r} stands for: nothing would be kept")
        rows = [batch["image"], np.where(kept, batch["image"], 128).astype(np.uint8)]
        if isinstance(sampler, TokenSampler):
            rows += [fill_in(sampler, variables, key, x0, kept, cond)]
        else:
            rows += [pictures(compiled(inpaint, sampler, resample=resample)(params, key, *known(x0, kept), cond))]
    elif action == "image":
        changed = compiled(change, sampler, strength=strength)(params, key, diffused(x0), cond)
        rows = [batch["image"], pictures(changed)]
    elif action == "invert":
        noise, back = compiled(to_noise, sampler)(params, diffused(x0), own), compiled(from_noise, sampler)
        rows = [batch["image"], pictures(noise / sampler.sigmas[0] / 3), pictures(back(params, noise, own))]
        rows += [pictures(back(params, noise, cond))] if asked else []
    else:
        rows = [pictures(row) for row in interpolate(sampler, params, diffused(x0), cond)]

    rows = [np.asarray(row) for row in rows]
    finite = np.concatenate([finite_images(row) for row in rows if row.dtype != np.uint8])
    check_any(finite, "images")
    sheet = np.concatenate([show.to_uint8(blank(row, finite_images(row))) for row in rows])
    path = Path(output) if output else Path(workdir) / f"edit-{action}.png"
    show.save_grid(path, sheet, columns=len(rows[0]), scale=scale)
    print(f"wrote {path}: {len(rows)} rows of {len(rows[0])} pictures, step {loaded.step}")
    check_all(finite, "images", f"they are blank in {path}")


def interpolate(sampler: DiffusionSampler, params: Any, x0: jax.Array, cond: Mapping) -> list[jax.Array]:
    """Rows from one x0 to the next one of its pair, through their noises, in the condition of the first."""
    noise, rows = compiled(to_noise, sampler)(params, x0, cond), []
    back, shares = compiled(from_noise, sampler), jnp.linspace(0, 1, BETWEEN)
    for i in range(0, len(x0) - 1, 2):
        first, second = (jnp.broadcast_to(noise[j], (BETWEEN, *noise.shape[1:])) for j in (i, i + 1))
        here = {name: jnp.broadcast_to(value[i], (BETWEEN, *value.shape[1:])) for name, value in cond.items()}
        rows.append(back(params, diffusion.slerp(first, second, shares), here))
    return rows


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_workdir("A run of experiments.diffusion, .latent_diffusion or .token_prior."),
        *command_line.define_sampling(),
        flags.DEFINE_string("images", None, "A folder of your own pictures; held-out ones if not given."),
        flags.DEFINE_string("mask", None, "inpaint: a picture, white is kept; the upper half if not given."),
        flags.DEFINE_integer("count", 10, "How many pictures.", lower_bound=1),
        flags.DEFINE_float("strength", 0.6, "image: share of the steps taken; 1 forgets the picture."),
        flags.DEFINE_integer("resample", 4, "inpaint: rounds per step, so that old and new agree.", lower_bound=1),
        flags.DEFINE_integer("scale", 3, "Enlargement of each pixel.", lower_bound=1),
        flags.DEFINE_string("output", None, "The PNG file; edit-ACTION.png in the run if not given."),
    ]
    command_line.run(lambda action: main(action, **command_line.values(*OPTIONS)), actions=ACTIONS)
