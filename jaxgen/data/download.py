"""Downloads of TFDS's own sets: said before they begin, and refused at once where no host answers.

TFDS itself tries for minutes and ends in the words of its HTTP library.
"""

import functools
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443, "ftp": 21}
HOSTS_TRIED, SECONDS = 3, 10
NETWORK = ("requests", "urllib3")  # what TFDS downloads with


def check_first(builder: Any) -> None:
    """Makes a builder check its downloads before it begins with them."""
    if not builder.url_infos:
        return
    generate = builder._split_generators  # the method that TFDS calls with its download manager

    @functools.wraps(generate)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check(builder)
        return generate(*args, **kwargs)

    builder._split_generators = checked


def _check(builder: Any) -> None:
    """Says what a set is downloaded from; raises ConnectionError if no host of it can be reached."""
    places = {place.hostname: place for place in map(urlsplit, _missing(builder)) if place.scheme in PORTS}
    if not places:
        return
    hosts = ", ".join(places)
    print(f"downloading {_name(builder)!r} from {hosts} to {builder.data_dir_root}", file=sys.stderr)
    if urllib.request.getproxies():  # which reach hosts that this machine cannot
        return
    reasons = []
    for place in list(places.values())[:HOSTS_TRIED]:
        try:
            socket.create_connection((place.hostname, place.port or PORTS[place.scheme]), timeout=SECONDS).close()
            return
        except OSError as error:
            reasons.append(error)
    raise ConnectionError(f"{hosts} cannot be reached ({reasons[0]})")


def unreachable(builder: Any, reason: object) -> ConnectionError:
    """The error for a set that cannot be downloaded, with the command that does it elsewhere."""
    return ConnectionError(
        f"{_name(builder)!r} is not prepared in {builder.data_dir_root}, and downloading it failed: {reason}. On a "
        f"machine with a network run: {command(builder)}, and copy the directory to this one"
    )


def failed(error: BaseException | None) -> bool:
    """Whether an error comes from the network."""
    while error is not None:
        from_library = type(error).__module__.split(".")[0] in NETWORK
        if from_library or isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)):
            return True
        error = error.__cause__ or error.__context__
    return False


def command(builder: Any) -> str:
    """The command that prepares a set with TFDS itself."""
    return (
        f"""python -c "import tensorflow_datasets as tfds; tfds.builder({_name(builder)!r}, """
        f"""data_dir={str(builder.data_dir_root)!r}).download_and_prepare(file_format='array_record')\""""
    )


def _name(builder: Any) -> str:
    return builder.info.full_name.rsplit("/", 1)[0]


def _missing(builder: Any) -> list[str]:
    """The addresses of what lies not yet in TFDS's folder of downloads."""
    from tensorflow_datasets.core.download import resource

    folder = Path(str(builder.data_dir_root)) / "downloads"
    return [
        url
        for url, info in builder.url_infos.items()
        if not (folder / resource.get_dl_fname(url, info.checksum)).exists()
    ]
