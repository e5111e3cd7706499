"""Models of probabilities as a file, so that every machine codes with the same whole numbers.

Of a network the file has the tables only: its weights are made of the model's own, see `weights_of`.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.codec.context import Context
from jaxgen.codec.integer_transformer import IntegerTransformer, Sizes, weights_of
from jaxgen.codec.networks import IntegerMasked, IntegerNext
from jaxgen.codec.prior import Autoregressive, Masked
from jaxgen.codec.probabilities import Probabilities, Static
from jaxgen.core.whole_file import whole_file

NAME = "codec.npz"
_VERSION = 1


def save_probabilities(path: Path, models: dict[str, Probabilities], digests: dict[str, str]) -> None:
    """Writes models by name, the whole file or none; what an archive of NumPy holds are arrays only.

    Args:
        path: of the file.
        models: by name.
        digests: of the codecs that they make, by which files name them.

    Raises:
        ValueError: a model that is not of whole numbers, such as a float prior.
    """
    about, arrays = {"version": _VERSION, "digests": digests, "models": {}}, {}
    for name, model in models.items():
        if type(model) not in _WRITERS or not model.exact:
            raise ValueError(f"{name} is a {type(model).__name__} that no file holds: only models of whole numbers are "
                             "the same when they are read back")
        about["models"][name], own = _WRITERS[type(model)](model)
        arrays |= {f"{name}/{key}": value for key, value in own.items()}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with whole_file(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)


def load_probabilities(path: Path, params: Mapping[str, Any]) -> dict[str, Probabilities]:
    """The models of a file.

    Args:
        path: of the file.
        params: of the network of a token prior, as `jaxgen.codec.integer_transformer.quantize` takes them; {} where
            there is none. Whether they are those that the file was written for the digests tell.

    Raises:
        ValueError: a file of another version, or none of these.
    """
    about, arrays = _read(path)
    models = {}
    try:
        for name, own in about["models"].items():
            tensors = {key.removeprefix(f"{name}/"): value for key, value in arrays.items()
                       if key.startswith(f"{name}/")}
            models[name] = _READERS[own["kind"]](own, tensors, params)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or of another model or an earlier version: {error!r}; fit the codec "
                         "again") from error
    return models


def read_digests(path: Path) -> dict[str, str]:
    """Of the codecs that a file's models make, by name; raises ValueError as `load_probabilities`."""
    return _read(path, arrays=False)[0]["digests"]


def _read(path: Path, *, arrays: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes())
            version = about["version"]
            found = {name: archive[name] for name in archive.files if arrays and name != "about"}
    except (EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} holds no probabilities of a codec, or is damaged: {error}") from error
    if version != _VERSION:
        raise ValueError(f"{path} is of version {version}, and this reads {_VERSION}: fit the codec again")
    return about, found


def _write_static(model: Static) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return {"kind": "static"}, {str(i): table.astype(np.int32) for i, table in enumerate(model.tables)}


def _read_static(about, arrays, params):
    return Static(tables=tuple(arrays[str(i)].astype(np.int64) for i in range(len(arrays))))


def _write_context(model: Context):
    counts = {f"counts/{i}/{expert}": table for i, own in enumerate(model.counts) for expert, table in own.items()}
    static = {f"static/{key}": table for key, table in _write_static(model.static)[1].items()}
    return {"kind": "context", "weights": model.weights, "grid": model.grid,
            "experts": [list(own) for own in model.counts]}, counts | static


def _read_context(about, arrays, params):
    static = {key.removeprefix("static/"): value for key, value in arrays.items() if key.startswith("static/")}
    return Context(
        static=_read_static(None, static, None), weights=tuple(map(tuple, about["weights"])),
        counts=tuple({expert: arrays[f"counts/{i}/{expert}"] for expert in own} for i, own in
                     enumerate(about["experts"])),
        grid=tuple(map(tuple, about["grid"])))


def _write_autoregressive(model: Autoregressive):
    own, tables = _write_network(model.network.network)
    return own | {"kind": "autoregressive", "num_codes": model.num_codes, "block": model.block,
                  "levels": model.network.levels}, tables


def _read_autoregressive(about, arrays, params):
    network = IntegerNext(network=_read_network(about, arrays, params), levels=about["levels"])
    return Autoregressive(network=network, block=tuple(about["block"]), num_codes=tuple(about["num_codes"]))


def _write_masked(model: Masked):
    own, tables = _write_network(model.network.network)
    return own | {"kind": "masked", "num_codes": model.num_codes, "groups": model.groups.tolist()}, tables


def _read_masked(about, arrays, params):
    network = IntegerMasked(network=_read_network(about, arrays, params))
    return Masked(network=network, num_codes=tuple(about["num_codes"]), groups=np.array(about["groups"]))


def _write_network(network):
    """Tables as differences along their first axis: modulations change little from step to step, and activations from
    entry to entry."""
    tables = {name: _narrow(np.diff(own, axis=0, prepend=0) if own.ndim else own)
              for name, own in network.tables.items()}
    return {"sizes": network.sizes, "unit": network.unit}, tables


def _read_network(about, arrays, params):
    *numbers, shifts = about["sizes"]
    tables = {name: np.cumsum(own, axis=0, dtype=np.int32) if own.ndim else own.astype(np.int32)
              for name, own in arrays.items()}
    return IntegerTransformer(sizes=Sizes(*numbers, tuple((name, shift) for name, shift in shifts)),
                              unit=about["unit"], weights=weights_of(params, about["unit"]), tables=tables)


def _narrow(values):
    """In the smallest type that holds them."""
    return next(own for own in map(values.astype, (np.int8, np.int16, np.int32)) if np.array_equal(own, values))


_WRITERS = {Static: _write_static, Context: _write_context, Autoregressive: _write_autoregressive,
            Masked: _write_masked}
_READERS = {"static": _read_static, "context": _read_context, "autoregressive": _read_autoregressive,
            "masked": _read_masked}
