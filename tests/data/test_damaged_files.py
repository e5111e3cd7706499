"""Damaged images, IDX files and digits are read, or refused with an error that names the file, in bounded memory."""

import resource
from collections import Counter

import pytest

from jaxgen.data.builders.fashion_mnist import read_idx
from jaxgen.data.builders.image_folder import read_square
from jaxgen.data.builders.mnist_5k import read_digits
from tests.data.mutants import digits_mutants, idx_mutants, image_files, image_mutants

GROWTH_MIB = 200


def outcomes(mutants, read):
    """How many mutants of each kind were read, and how many refused by a ValueError that names the file."""
    before, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Counter()
    for kind, path in mutants:
        try:
            read(path)
            found[kind, "read"] += 1
        except ValueError as error:
            assert path.name in str(error), f"{type(error).__name__}: {error}"
            found[kind, "refused"] += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_MIB * 1024
    return found


def written(directory, mutants, suffix=".png"):
    for i, (kind, data) in enumerate(mutants):
        path = directory / f"mutant{i}{kind if kind.startswith('.') else suffix}"
        path.write_bytes(data)
        yield kind, path
        path.unlink()


def read_small(path):
    return read_square(path, 8)


def check_images(directory, count):
    found = outcomes(written(directory, image_mutants(count)), read_small)
    print(dict(sorted(found.items())))
    for name in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"):
        assert found[name, "read"] and found[name, "refused"], found


def check_idx(directory, count):
    found = outcomes(written(directory, idx_mutants(count), suffix="-ubyte"), read_idx)
    print(dict(sorted(found.items())))
    assert all(found[suffix, outcome] for suffix in ("", ".gz") for outcome in ("read", "refused"))


def check_digits(directory, count):
    found = outcomes(written(directory, ((".gz", data) for data in digits_mutants(count))), read_digits)
    print(dict(sorted(found.items())))
    assert found[".gz", "read"] and found[".gz", "refused"]


def test_the_files_that_are_mutated_are_whole(tmp_path):
    for _, path in written(tmp_path, image_files()):
        assert read_small(path).size == (8, 8)


@pytest.mark.parametrize(
    ("check", "count"), [(check_images, 1200), (check_idx, 600), (check_digits, 200)], ids=["images", "idx", "digits"]
)
def test_damaged_files_are_read_or_refused_by_name(tmp_path, recwarn, capfd, check, count):
    check(tmp_path, count)
    assert not [str(warning.message) for warning in recwarn]  # what Pillow has to say of odd files is no news
    shown = [line for line in capfd.readouterr().err.splitlines() if "Warning" in line or "PIL" in line]
    assert not shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "count"), [(check_images, 20_000), (check_idx, 5_000), (check_digits, 3_000)],
    ids=["images", "idx", "digits"],
)
def test_thousands_of_damaged_files_are_read_or_refused_by_name(tmp_path, check, count):
    check(tmp_path, count)
