"""Files that a script writes: checked before the work, not after it."""

from pathlib import Path

from PIL import Image

from jaxgen.runs.directory import expand

SHEET = 1024  # images of one sheet at most


def check_output(option: str, path: str | Path | None, default: Path, *, kinds: tuple[str, ...] | None = None) -> Path:
    """Where an output goes; its folder is made, and a file that will be replaced is named.

    Args:
        option: for messages, such as "--output".
        path: the option's value; None for `default`.
        default: see above.
        kinds: endings that are allowed; None for those of images.

    Raises:
        ValueError: the path is a directory, its ending is not one of the kinds, or its folder cannot be made.
    """
    file = default if path is None else expand(path)
    kinds = tuple(Image.registered_extensions()) if kinds is None else kinds
    shown = kinds if len(kinds) < 5 else (".png", ".jpg", ".webp", "...")
    if file.is_dir():
        raise ValueError(f"{option}={file} is a directory: give a file in it, such as {file / ('name' + shown[0])}")
    if file.suffix.lower() not in kinds:
        raise ValueError(f"{option}={file} must end in {', '.join(shown)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{option}={file}: its folder cannot be made: {error.strerror}") from error
    if file.exists():
        print(f"{file} is there and will be replaced: {option} names another file", flush=True)
    return file


def check_folder(option: str, path: str | Path) -> Path:
    """A folder for many files, which is made.

    Raises:
        ValueError: it is a file, or not empty, or cannot be made.
    """
    folder = expand(path)
    if folder.is_file():
        raise ValueError(f"{option}={folder} is a file: give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{option}={folder} is not empty: give a new or empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{option}={folder} cannot be made: {error.strerror}") from error
    return folder
