"""Outputs are checked before the work, and their folders are made."""

from pathlib import Path

import pytest

from experiments.common.outputs import check_folder, check_output


def test_an_ending_that_no_image_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--output=.*x\.xyz must end in \.png, \.jpg, \.webp"):
        check_output("--output", tmp_path / "x.xyz", Path())


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="is a directory: give a file in it, such as"):
        check_output("--output", tmp_path, Path())


def test_the_folder_of_an_output_is_made(tmp_path):
    assert check_output("--npz", tmp_path / "new" / "x.npz", Path(), kinds=(".npz",)).parent.is_dir()


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: give a new or empty folder"):
        check_folder("--png_folder", tmp_path)
