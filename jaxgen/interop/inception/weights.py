"""The weights of the Inception network of the Fréchet inception distance, as libraries of PyTorch publish them.

    params = load_inception()                                # from ~/.cache/jaxgen/inception; says how to fill it
    network = jaxgen.evaluate.inception_features(params, resize="tensorflow")

pytorch-fid and torch-fidelity publish the same tensors under the same names. Nothing is downloaded.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.core.cache import cache_directory
from jaxgen.interop.safetensors import PICKLED, read_safetensors
from jaxgen.interop.safetensors_file import SUFFIX
from jaxgen.interop.state_dict import LEAVES, Layout, to_params
from jaxgen.nn.inception import SIDE, InceptionV3

FILE = f"inception-2015-12-05{SUFFIX}"
PUBLISHED = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{PUBLISHED}"
STATISTICS = {"mean": "running_mean", "var": "running_var"}
COUNTER = "num_batches_tracked"  # of PyTorch's normalization, which nothing here reads


def load_inception(path: str | Path | None = None) -> dict[str, Any]:
    """The parameters of `jaxgen.nn.InceptionV3`, float32.

    Args:
        path: safetensors of `inception_from_tensors`'s names. None: `$JAXGEN_CACHE`/inception, or
            ~/.cache/jaxgen/inception, and there inception-2015-12-05.safetensors.

    Returns:
        jax arrays on the default device.

    Raises:
        FileNotFoundError: no weights are there; gives the commands that fetch and convert them.
        ValueError: a damaged file, tensors that do not fit the network, or pickles of PyTorch.
    """
    path = _cache() / FILE if path is None else Path(path)
    if path.suffix in PICKLED:
        raise ValueError(f"{path} holds pickled weights, which are not read because reading them runs the code inside. "
                         f"{_advice()}")
    try:
        tensors = read_safetensors(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no Inception weights at {path}: {error}. {_advice()}") from error
    return inception_from_tensors(tensors, source=str(path))


def inception_from_tensors(tensors: Mapping[str, np.ndarray], *, source: str = "tensors") -> dict[str, Any]:
    """Parameters from the state dict of pt_inception-2015-12-05-6726825d.pth.

    Args:
        tensors: "Conv2d_1a_3x3.conv.weight" [O, I, H, W], "Conv2d_1a_3x3.bn.weight", ".bias", ".running_mean" and
            ".running_var" [O], and so on; "fc.weight" [1008, 2048], "fc.bias". Counts of batches are ignored.
        source: where the tensors are from, for the error.

    Raises:
        ValueError: tensors are missing, left over or of the wrong shape, as those of torchvision's Inception are,
            which is another network; names them, with both shapes.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] != COUNTER}
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    expected = jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"]
    return to_params(tensors, expected, source, LAYOUT)


def _name(path: tuple[str, ...]) -> str:
    *modules, leaf = path
    return ".".join([*modules, (LEAVES | STATISTICS).get(leaf, leaf)])


LAYOUT = Layout("the Inception network of the FID", _name, {})


def _cache() -> Path:
    return cache_directory("inception", "Inception's weights")


def _advice() -> str:
    directory = shlex.quote(str(_cache()))
    convert = (f"import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in "
               f"torch.load('{PUBLISHED}', weights_only=True).items()}}, '{FILE}')")
    return (
        "Nothing is downloaded by itself: fetch the published weights (95 MB) and convert them, where PyTorch is "
        "installed, with\n"
        f"    mkdir -p {directory} && cd {directory} && curl -LO {URL}\n"
        f'    python -c "{convert}"'
    )
