"""The parts' own requirements, which an installation has where it was asked for them: the extras of setup.cfg."""

import contextlib
from collections.abc import Iterator

# Each extra's packages, by the names they are imported under.
EXTRAS = {
    "codec": ("constriction",),
    "models": ("flax", "tqdm"),
    "data": ("grain", "tensorflow_datasets", "importlib_resources", "PIL", "tqdm"),
    "train": ("optax", "orbax", "PIL"),
    "experiments": ("absl", "ml_collections", "matplotlib", "mlxtend", "sklearn", "tensorboardX"),
}


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Turns a missing package of an extra into an error that says what to install.

        with extra("models"):
            from flax import linen as nn

    Args:
        name: a key of `EXTRAS`.

    Raises:
        ImportError: inside, a package of that extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS[name]:
            raise
        raise ImportError(f"this part of jaxgen needs {package}, which is not installed: pip install 'jaxgen[{name}]'",
                          name=error.name) from error
