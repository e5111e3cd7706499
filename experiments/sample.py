"""Sample from a trained run.

    python -m experiments.sample --workdir=runs/digits
    python -m experiments.sample --checkpoint=diffusion_mnist
    python -m experiments.sample --workdir=runs/digits --classes=3,5 --guidance=2 --solver=dpmpp_2m --steps=12
    python -m experiments.sample --workdir=runs/emoji --prompt="red heart" --prompt="blue heart" --count=8
    python -m experiments.sample --workdir=runs/digits --gif=digits.gif --npz=digits.npz
    python -m experiments.sample --workdir=runs/digits --count=50000 --npz=digits.npz --png_folder=digits

Sample i depends on the seed and on i only, not on the batch or the number of devices. The npz holds `arr_0`, uint8
[N, H, W, C], as programs that measure FID read it, and the conditions by name.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from PIL import Image

from experiments.common import command_line
from experiments.common.outputs import SHEET, check_folder, check_output
from experiments.common.trained import load_trained
from jaxgen import generate, models, show

FRAME_SECONDS = 0.1


def main(*, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, count: int, batch: int, seed: int,
         classes, prompt, output: str | None, npz: str | None, gif: str | None, png_folder: str | None,
         columns: int | None, scale: int, settings: dict[str, Any]) -> None:
    run, folder = load_trained(workdir, checkpoint, checkpoint_step)
    path = check_output("--output", output, folder / f"samples-step{run.step:08d}-seed{seed}.png")
    npz = npz and check_output("--npz", npz, Path(), kinds=(".npz",))
    gif = gif and check_output("--gif", gif, Path(), kinds=(".gif",))
    png_folder = png_folder and check_folder("--png_folder", png_folder)
    sampler = run.sampler(**settings)
    if gif:
        if not isinstance(run.model, models.Denoising):
            raise ValueError("--gif shows the way from noise to image, which a token prior does not have")
        sampler = generate.diffusion_sampler(run.model, sampler.settings, save_every=1)
    cond = run.model.conditions.parse(count, classes=classes, prompts=prompt, names=run.class_names)

    start, parts = time.monotonic(), []
    for part in generate.sample_batches(sampler, run.variables, jax.random.key(seed), cond, count, batch=batch,
                                        bar=True):
        parts.append(part if gif else (part, None))
    seconds = time.monotonic() - start
    samples = np.concatenate([final for final, _ in parts])
    finite = generate.finite_images(samples)
    generate.check_any(finite, "samples")

    columns = columns or columns_of(len(classes or prompt or range(run.model.conditions.num_classes)), count)
    shown = generate.blank(samples, finite)[:SHEET]
    show.save_grid(path, shown, columns=columns, scale=scale)
    first = f"the first {len(shown)} of " if len(shown) < count else ""
    print(f"wrote {path}: {first}{count} samples of step {run.step}; {sampler.work.evaluations()} network evaluations "
          f"each, guidance included; {count / seconds:.1f} samples/s with compilation")
    images = show.to_uint8(samples[finite])
    if npz:
        cond = {name: value[finite] for name, value in cond.items()}
        np.savez_compressed(npz, arr_0=images, **cond)
        print(f"wrote {npz}: arr_0 {list(images.shape)} uint8{''.join(f', {name}' for name in cond)}")
    if png_folder:
        for i, image in zip(np.flatnonzero(finite), images):
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png_folder / f"{i:06d}.png")
        print(f"wrote {png_folder}: {len(images)} PNG files")
    if gif:
        trajectory = np.concatenate([trajectory for _, trajectory in parts], axis=1)
        save_gif(gif, generate.blank(trajectory, finite)[:, :SHEET], columns, scale)
        print(f"wrote {gif}")
    left_out = [str(file) for file in (npz, png_folder) if file]
    place = "beyond the sheet" if finite[:SHEET].all() else f"blank in {path}"
    generate.check_all(finite, "samples", f"they are {place}"
                       + (f" and left out of {' and '.join(left_out)}" if left_out else ""))


def columns_of(asked: int, count: int) -> int | None:
    """Columns in which so many classes or prompts, asked for in turn, stand below each other; None: as it comes."""
    return asked * (min(16, count) // asked) if 1 < asked <= min(16, count - 1) else None


def save_gif(path: Path, trajectory: np.ndarray, columns: int | None, scale: int) -> None:
    """The samples [steps, B, H, W, C] from noise to image; noise is scaled into the visible range."""
    frames = []
    for images in trajectory:
        sheet = show.make_grid(show.scaled_to_show(images), columns=columns).repeat(scale, 0).repeat(scale, 1)
        frames.append(Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet))
    frames += [frames[-1]] * 10
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=int(1000 * FRAME_SECONDS), loop=0)


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("The directory of a trained run."),
        *command_line.define_conditions(),
        flags.DEFINE_integer("count", 64, "How many samples.", lower_bound=1),
        flags.DEFINE_integer("batch", 64, "Samples computed at a time.", lower_bound=1),
        flags.DEFINE_integer("columns", None, "Images in a row; by default a class stands in columns of its own.",
                             lower_bound=1),
        flags.DEFINE_integer("scale", 2, "Enlargement of each pixel.", lower_bound=1),
        command_line.define_path("output", None, f"The image file, a sheet of the first {SHEET} samples; "
                                 "samples-stepN-seedS.png in the run by default."),
        command_line.define_path("npz", None, "Also write the images as bytes, with their conditions, to this file."),
        command_line.define_path("png_folder", None, "Also write each image to a PNG file in this folder."),
        command_line.define_path("gif", None, "Also write the way from noise to the samples to this file."),
    ]
    SETTINGS = command_line.define_sampling()
    command_line.run(lambda: main(**command_line.values(*OPTIONS), settings=command_line.passed(*SETTINGS)))
