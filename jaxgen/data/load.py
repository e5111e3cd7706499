"""Finding, preparing and reading a data set by name."""

import difflib
import importlib
import inspect
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core.cache import home_directory
from jaxgen.core.checks import check_count
from jaxgen.core.errors import unknown_name
from jaxgen.core.extras import extra
from jaxgen.data.dataset import ArraySource, Dataset, RecordSource
from jaxgen.data.kinds import Caption, Class, Image, Kind
from jaxgen.data.prepare import prepare, quiet
from jaxgen.data.resize import centre_crop, resize
from jaxgen.data.spec import Spec
from jaxgen.data.splits import check_split

# name -> the class in jaxgen.data.builders.<name>
OWN = {
    "debian_photos": "DebianPhotos",
    "fashion_mnist": "FashionMnist",
    "image_folder": "ImageFolder",
    "mnist_5k": "Mnist5k",
    "noto_emoji": "NotoEmoji",
}
# Faces fill the middle 140 of the 218x178 images; this crop, then 64x64, is what published numbers use.
CELEB_A_CROP, CELEB_A_SIZE = 140, 64
# Sets whose images were shifted when they were made, so that their centre of mass lies in the middle.
CENTRED_BY_MASS = ("mnist", "mnist_5k")
READ_AT_ONCE = 256
PREPARED = "prepared data sets"
# The features that examples may be; labels and captions come with them.
READ = {"image"}


def load(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    memory_limit: int = 2 * 1024**3,
    **builder_options: Any,
) -> Dataset:
    """Loads one split of a data set, preparing it on first use.

    Own sets, which need neither TensorFlow nor the internet: "mnist_5k" (the embedded default), "fashion_mnist"
    (from IDX files; option `folder`), "noto_emoji" (options `font`, `categories`), "debian_photos" (crops of
    photographs, of the side `image_size`, 64 by default; option `folder`), "image_folder" (options `folder`, and
    `skip_unreadable` to leave out damaged files with a warning). Every other name goes to TFDS as it is, with its
    options, and is downloaded on first use. "celeb_a" gets its centre crop of 140x140 pixels, then `image_size` (64 by
    default).

    Args:
        name: of the set.
        split: "train", "test", or what TFDS understands, such as "train[:10%]".
        data_dir: where prepared sets lie. None: `$JAXGEN_DATA_DIR` or ~/.cache/jaxgen/tfds, and TFDS's default for its.
        image_size: side of the square images, in pixels. An image that is not square is cut to its central square.
        memory_limit: bytes up to which the decoded set is held in memory; a larger one is read from its records.
        **builder_options: options of the set, see above.

    Returns:
        The `Dataset`.

    Raises:
        ValueError: for an unknown set, split or option, a split without examples, images of several sizes without
            `image_size`, or a file that is damaged, by its name.
        FileNotFoundError: for a missing font, folder or files, or a home directory that is not known.
        PermissionError: if `data_dir` cannot be written.
        ConnectionError: if a set of TFDS's own cannot be downloaded.
        ImportError: if TFDS needs TensorFlow to prepare a set of its own, with the command that does it.
    """
    if image_size is not None:
        image_size = check_count("image_size", image_size)
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    builder = _own_builder(name, data_dir, image_size, builder_options) if name in OWN else None
    if builder is None:
        builder = _stock_builder(name, data_dir, builder_options)
    check_split(name, split, builder.info.splits)
    features = builder.info.features
    if not READ & set(features):
        raise ValueError(f"{name!r} holds no feature that jaxgen.data.load reads ({', '.join(sorted(READ))}), "
                         f"but {sorted(features)}: read it with Dataset.from_spec")
    crop = None
    if stem(name) == "celeb_a":
        crop, image_size = CELEB_A_CROP, image_size or CELEB_A_SIZE
    if image_size is None and None in features["image"].shape:
        raise ValueError(f"{name!r} has images of several sizes: pass image_size, for example image_size=64")
    metadata = builder.info.metadata
    if isinstance(metadata, dict) and "left_out" in metadata:  # said again where the set lay prepared
        warnings.warn(f"{name}: {metadata['left_out']}", stacklevel=2)
    with quiet():
        records = _records(name, split, builder)
        return _dataset(name, split, features, records, partial(_decode, crop=crop, size=image_size), memory_limit)


def stem(name: str) -> str:
    """The name of a set without TFDS's configuration and version.

    Example:
        >>> stem("mnist:3.0.1")
        'mnist'
    """
    return name.split("/")[0].split(":")[0]


def centred_by_mass(name: str) -> bool:
    """Whether the images of a set have their centre of mass in the middle, as MNIST's digits."""
    return stem(name) in CENTRED_BY_MASS


def _records(name: str, split: str, builder: Any) -> Any:
    try:
        records = builder.as_data_source(split=split)
        if len(records) > 0:
            return records
        reason = None
    except (KeyError, ValueError) as error:  # of an unknown split, an empty part, one beyond the end
        reason = error
    known = ", ".join(f"{key} ({info.num_examples} examples)" for key, info in builder.info.splits.items())
    hint = ". One image, or copies of one, leave nothing to test on" if len(builder.info.splits) == 1 else ""
    raise ValueError(
        f"{name!r} has no examples in split={split!r}: expected one of {known}, or a part such as 'train[:10%]'{hint}"
    ) from reason


def _decode(record: dict[str, Any], *, crop: int | None, size: int | None) -> dict[str, Any]:
    image = record["image"]
    if crop is not None:
        image = centre_crop(image, crop, crop)
    if size is not None and image.shape[:2] != (size, size):
        image = resize(centre_crop(image, min(image.shape[:2]), min(image.shape[:2])), size)
    example = {"image": image}
    if np.ndim(record.get("label", ())) == 0 and "label" in record:
        example["label"] = np.int32(record["label"])
    if "caption" in record:
        caption = record["caption"]
        example["caption"] = np.str_(caption.decode() if isinstance(caption, bytes) else caption)
    return example


def _dataset(name: str, split: str, features: Any, records: Any, decode: Callable, memory_limit: int) -> Dataset:
    import tensorflow_datasets as tfds

    first = decode(records[0])
    spec: dict[str, Kind] = {"image": Image(first["image"].shape)}
    if "label" in first:
        feature = features["label"]
        named = isinstance(feature, tfds.features.ClassLabel)
        spec["label"] = Class(feature.num_classes, tuple(feature.names or ()) or None) if named else Class()
    if "caption" in first:
        spec["caption"] = Caption()
    source = RecordSource(records, decode)
    if len(records) * first["image"].nbytes <= memory_limit:
        source = ArraySource(_read(source))
    return Dataset(name, split, Spec(spec), source)


def _read(source: RecordSource) -> dict[str, np.ndarray]:
    """Decodes everything, a few hundred records at a time, so that the records' bytes are never all in memory."""
    parts = [
        source.take(np.arange(start, min(start + READ_AT_ONCE, len(source))))
        for start in range(0, len(source), READ_AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def own_data_dir() -> Path:
    """Where own sets are prepared: `$JAXGEN_DATA_DIR`, or ~/.cache/jaxgen/tfds."""
    chosen = os.environ.get("JAXGEN_DATA_DIR")
    if chosen:
        return Path(os.path.expanduser(chosen))
    return home_directory("JAXGEN_DATA_DIR", PREPARED, "data_dir=") / ".cache" / "jaxgen" / "tfds"


def _own_builder(name: str, data_dir: Any, image_size: int | None, options: dict[str, Any]) -> Any:
    """The prepared builder of an own set, or None if TFDS has to serve it."""
    cls = getattr(importlib.import_module(f"jaxgen.data.builders.{name}"), OWN[name])
    allowed = set(inspect.signature(cls.open).parameters) - {"data_dir", "image_size"}
    for option in options:
        if not allowed:
            raise ValueError(f"unknown option {option!r}: {name!r} has no options, leave it out")
        if option not in allowed:
            raise unknown_name(f"option of {name!r}", option, sorted(allowed))
    directory = Path(data_dir) if data_dir is not None else own_data_dir()
    try:
        with quiet():
            cls.open(data_dir=directory, image_size=image_size, **options)
    except FileNotFoundError:
        if name == "fashion_mnist" and not options and _stock_is_prepared(name, data_dir):
            return None
        raise
    return prepare(lambda: cls.open(data_dir=directory, image_size=image_size, **options))


def _stock_is_prepared(name: str, data_dir: Any) -> bool:
    import tensorflow_datasets as tfds

    with quiet():
        return bool(tfds.builder(name, data_dir=data_dir).is_prepared())


def _stock_builder(name: str, data_dir: Any, options: dict[str, Any]) -> Any:
    with extra("data"):
        import tensorflow_datasets as tfds

    if data_dir is not None:
        options = {**options, "data_dir": os.fspath(data_dir)}
    elif not os.environ.get("TFDS_DATA_DIR"):
        home_directory("TFDS_DATA_DIR", PREPARED, "data_dir=")

    def open_builder() -> Any:
        try:
            return tfds.builder(name, **options)
        except tfds.core.DatasetNotFoundError as error:
            known = sorted({*OWN, *tfds.list_builders(with_community_datasets=False)})
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(
                f"unknown data set {name!r}: expected one of {', '.join(map(repr, OWN))}, or a name that "
                f"tensorflow_datasets.list_builders() gives.{hint}"
            ) from error
        except (AssertionError, TypeError) as error:  # an unknown version or option
            raise ValueError(str(error)) from error

    return prepare(open_builder)
