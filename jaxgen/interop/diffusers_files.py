"""Where diffusers keeps its configurations: in a model's directory, or in a sub-folder of a pipeline's."""

import json
from pathlib import Path
from typing import Any


def find(directory: str | Path, file: str, folder: str) -> Path:
    """The path of `file` in a directory, or in its sub-folder.

    Raises:
        FileNotFoundError: it is in neither; says what was looked for.
    """
    directory = Path(directory)
    places = directory / file, directory / folder / file
    for place in places:
        if place.is_file():
            return place
    there = "" if directory.is_dir() else f": there is no directory {directory}"
    raise FileNotFoundError(f"neither {places[0]} nor {places[1]} is there{there}")


def read_config(file: Path) -> dict[str, Any]:
    """The content of a JSON file.

    Raises:
        ValueError: it holds no object.
    """
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} must hold an object {{...}}, got {type(config).__name__}")
    return config
