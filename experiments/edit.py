"""Edit images with a trained diffusion model, latent or not, or fill in their tokens with a token prior.

    python -m experiments.edit inpaint --workdir=runs/digits                       # held-out images, lower half
    python -m experiments.edit inpaint --workdir=runs/digits --images=my/images --mask=mask.png
    python -m experiments.edit img2img --workdir=runs/digits --images=scribbles --strength=0.6 --classes=7
    python -m experiments.edit invert --workdir=runs/digits --classes=3            # to noise, and back as a 3
    python -m experiments.edit interpolate --workdir=runs/digits
    python -m experiments.edit inpaint --checkpoint=diffusion_mnist

The sheet's rows: the images that were passed, then what became of them. In a mask image white is kept and black is
filled in; kept pixels come back exactly. A latent model keeps the latents of which all pixels are kept, and so does a
token prior its tokens; it knows inpaint only. An autoregressive one draws each missing token knowing those before it in
row-major order, drawn or kept, and not the kept tokens that come after it: it completes a lower half well, but an upper
half without having seen the lower one.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.common import command_line
from experiments.common.outputs import check_output
from experiments.common.trained import load_trained
from jaxgen import data, generate, models, show
from jaxgen.core.checks import choose
from jaxgen.data.image_file import read_image


def inpaint(sampler, run, key, images, x, own, cond, options):
    """Rows: the images, what was kept of them, what was filled in."""
    keep = np.broadcast_to(read_mask(options["mask"], run.example_shape), (len(x), *x.shape[1:-1], 1))
    filled = generate.inpaint(sampler, run.variables, key, x, keep, cond, resample=options["resample"])
    return [images, np.where(keep, images, 128).astype(np.uint8), filled]


def img2img(sampler, run, key, images, x, own, cond, options):
    """Rows: the images, what became of them."""
    return [images, generate.img2img(sampler, run.variables, key, x, cond, strength=options["strength"])]


def invert(sampler, run, key, images, x, own, cond, options):
    """Rows: the images, their noise, what comes back in their own condition, and in the one asked for."""
    noise = generate.to_noise(sampler, run.variables, x, own)
    rows = [images, generate.show_noise(sampler, run.variables, noise),
            generate.from_noise(sampler, run.variables, noise, own)]
    return rows if cond is own else [*rows, generate.from_noise(sampler, run.variables, noise, cond)]


def interpolate(sampler, run, key, images, x, own, cond, options):
    """Rows from one image to the next one of its pair, through their noises, in the condition of the first."""
    if len(x) < 2 or len(x) % 2:
        raise ValueError(f"interpolate takes images in pairs, got {len(x)}: use --count={max(2, len(x) - 1)}, or one "
                         "more image")
    return generate.interpolate(sampler, run.variables, x, cond)


ACTIONS = {"inpaint": inpaint, "img2img": img2img, "invert": invert, "interpolate": interpolate}


def main(action: str, *, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, images: str | None,
         count: int, seed: int, classes, prompt, output: str | None, scale: int, settings: dict[str, Any],
         **options: Any) -> None:
    edit = choose("action", action, ACTIONS)
    if options["mask"] is not None and action != "inpaint":
        raise ValueError(f"--mask={options['mask']} belongs to inpaint, not to {action}")
    run, folder = load_trained(workdir, checkpoint, checkpoint_step)
    path = check_output("--output", output, folder / f"edit-{action}-step{run.step:08d}-seed{seed}.png")
    sampler = run.sampler(**settings)
    if action != "inpaint" and not isinstance(run.model, models.Denoising):
        raise ValueError(f"edit {action} needs a diffusion model, and the run in {run.path} is a token prior: use "
                         "inpaint")

    # 1. The images: held-out ones with their own conditions, or the user's without. Those asked for come before both.
    conditions = run.model.conditions
    dataset = data.read_folder(images, run.example_shape) if images else conditions.prepare(run.dataset())
    batch = dataset.spread(count)
    originals = batch[dataset.example]
    own = run.model.null(len(originals)) if images else conditions.of_batch(batch)
    asked = classes is not None or prompt is not None
    cond = conditions.parse(len(originals), classes=classes, prompts=prompt, names=run.class_names) if asked else own

    # 2. The rows of the sheet.
    rows = edit(sampler, run, jax.random.key(seed), originals, data.to_float(originals), own, cond, options)
    rows = [np.asarray(row) for row in rows]
    finite = np.concatenate([generate.finite_images(row) for row in rows if row.dtype != np.uint8])
    generate.check_any(finite, "images")
    blank = partial(map, lambda row: show.to_uint8(generate.blank(row, generate.finite_images(row))))
    show.save_grid(path, np.concatenate(list(blank(rows))), columns=len(rows[0]), scale=scale)
    print(f"wrote {path}: {len(rows)} rows of {len(rows[0])} images, step {run.step}")
    generate.check_all(finite, "images", f"they are blank in {path}")


def read_mask(path: str | None, shape: tuple[int, ...]) -> np.ndarray:
    """[1, H, W, 1] True where white or transparent: an image of the model's size, or its upper half without one.

    Raises:
        ValueError: the image has another size, or cannot be read.
    """
    height, width, _ = shape
    if path is None:
        return (np.arange(height) < height // 2)[None, :, None, None] & np.ones((1, 1, width, 1), bool)
    image = read_image(path).convert("L")
    if image.size != (width, height):
        raise ValueError(f"--mask={path} has {image.size[0]}x{image.size[1]} pixels, but this model's images have "
                         f"{width}x{height}: give a mask of that size")
    return (np.asarray(image) >= 128)[None, :, :, None]


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("A run of a diffusion model or of a token prior."),
        *command_line.define_conditions(),
        command_line.define_path("images", None, "A folder of your own images; held-out ones by default."),
        command_line.define_path("mask", None, "inpaint: an image, white is kept; the upper half by default."),
        flags.DEFINE_integer("count", 10, "How many images.", lower_bound=1),
        flags.DEFINE_float("strength", 0.6, "img2img: share of the steps taken; 1 forgets the image."),
        flags.DEFINE_integer("resample", 4, "inpaint: rounds per step, so that old and new agree.", lower_bound=1),
        flags.DEFINE_integer("scale", 3, "Enlargement of each pixel.", lower_bound=1),
        command_line.define_path("output", None, "The image file; edit-ACTION-stepN-seedS.png in the run by default."),
    ]
    SETTINGS = command_line.define_sampling()
    command_line.run(lambda action: main(action, **command_line.values(*OPTIONS),
                                         settings=command_line.passed(*SETTINGS)), actions=tuple(ACTIONS))
