"""Names for prepared sets that change when the files they were made from change, and splits that do not."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def of_files(root: Path, files: Iterable[Path], *extra: object) -> str:
    """Eight hexadecimal digits from each file's place under `root`, size and time of change, and `extra`."""
    digest = hashlib.sha256(repr(extra).encode())
    for file in files:
        status = file.stat() if file.exists() else file.lstat()  # of the link itself where it leads nowhere
        # The name's own bytes, which need not be UTF-8.
        digest.update(os.fsencode(file.relative_to(root).as_posix()))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]


def fraction(content: str | bytes) -> float:
    """A number in [0, 1) that depends only on the content, evenly spread: below 0.1 means test."""
    content = content.encode() if isinstance(content, str) else content
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
