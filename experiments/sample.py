"""Sample from a trained run.

    python -m experiments.sample --workdir=runs/digits
    python -m experiments.sample --workdir=runs/digits --classes=3,5 --guidance=2 --solver=dpmpp_2m --steps=12
    python -m experiments.sample --workdir=runs/emoji --prompt="red heart" --prompt="blue heart" --count=8
    python -m experiments.sample --workdir=runs/digits --gif=digits.gif --npz=digits.npz

Sample i depends on the seed and on i alone, not on the batch or the number of devices.
"""

import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from PIL import Image

from experiments import command_line
from experiments.conditions import to_condition
from experiments.finite import blank, check_all, check_any, finite_images
from experiments.sampling import DiffusionSampler, load_sampler
from jaxgen import show

FRAME_SECONDS = 0.1


def main(*, workdir: str, step: int | None, count: int, batch: int, seed: int, classes, prompt, output: str | None,
         npz: str | None, gif: str | None, columns: int | None, scale: int, **changes) -> None:
    sampler, loaded, variables = load_sampler(workdir, changes, step=step)
    if gif:
        if not isinstance(sampler, DiffusionSampler):
            raise ValueError("--gif shows the way from noise to picture, which a token prior has not")
        sampler = type(sampler)(loaded.model, sampler.image_shape, sampler.sampling, save_every=1)
    names = loaded.config["class_names"]
    cond = to_condition(loaded.model, count, classes=classes, prompts=prompt, names=names)
    start, parts = time.monotonic(), []
    for part in sampler.many(variables, jax.random.key(seed), cond, count, batch=batch, bar=True):
        parts.append(part if gif else (part, None))
    seconds = time.monotonic() - start
    pictures = np.concatenate([final for final, _ in parts])
    finite = finite_images(pictures)
    check_any(finite, "samples")
    path = Path(output) if output else Path(workdir) / "samples.png"
    columns = columns or columns_of(len(classes or prompt or range(loaded.model.num_classes)), count)
    show.save_grid(path, blank(pictures, finite), columns=columns, scale=scale)
    print(f"wrote {path}: {count} samples of step {loaded.step}; {sampler.evaluations} network evaluations each "
          f"(twice that where guided); {count / seconds:.1f} samples/s with compilation")
    if npz:
        cond = {name: value[finite] for name, value in cond.items()}
        np.savez_compressed(npz, images=show.to_uint8(pictures[finite]), **cond)
        shape = [int(finite.sum()), *pictures.shape[1:]]
        print(f"wrote {npz}: images {shape} uint8{''.join(f', {name}' for name in cond)}")
    if gif:
        save_gif(Path(gif), blank(np.concatenate([trajectory for _, trajectory in parts], axis=1), finite), columns,
                 scale)
        print(f"wrote {gif}")
    check_all(finite, "samples", f"they are blank in {path}" + f" and left out of {npz}" * bool(npz))


def columns_of(asked: int, count: int) -> int | None:
    """Columns in which so many classes or prompts, asked for in turn, stand below each other; None: as it comes."""
    return asked * (min(16, count) // asked) if 1 < asked <= min(16, count - 1) else None


def save_gif(path: Path, trajectory: np.ndarray, columns: int | None, scale: int) -> None:
    """The samples [steps, B, H, W, C] from noise to picture; noise is scaled into the visible range."""
    frames = []
    for pictures in trajectory:
        size = np.maximum(1.0, np.quantile(np.abs(pictures), 0.99, axis=(1, 2, 3), keepdims=True))
        sheet = show.make_grid(pictures / size, columns=columns).repeat(scale, 0).repeat(scale, 1)
        frames.append(Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet))
    frames += [frames[-1]] * 10
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=int(1000 * FRAME_SECONDS), loop=0)


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_workdir("The directory of a trained run."),
        *command_line.define_sampling(),
        flags.DEFINE_integer("count", 64, "How many samples.", lower_bound=1),
        flags.DEFINE_integer("batch", 64, "Samples computed at a time.", lower_bound=1),
        flags.DEFINE_integer("columns", None, "Pictures in a row; by default a class stands in columns of its own.",
                             lower_bound=1),
        flags.DEFINE_integer("scale", 2, "Enlargement of each pixel.", lower_bound=1),
        flags.DEFINE_string("output", None, "The PNG file; samples.png in the run if not given."),
        flags.DEFINE_string("npz", None, "Also write the pictures as bytes, with their conditions, to this file."),
        flags.DEFINE_string("gif", None, "Also write the way from noise to the samples to this file."),
    ]
    command_line.run(lambda: main(**command_line.values(*OPTIONS)))
