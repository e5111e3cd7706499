"""Classes asked for by name or by number."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.conditions import to_condition

FOLDERS = tuple(sorted(map(str, range(12))))  # as text: 0, 1, 10, 11, 2, ...


def chosen(names, *classes, num_classes=None):
    model = SimpleNamespace(num_classes=num_classes or len(names), text_length=0)
    return to_condition(model, len(classes), classes=classes, names=names)["classes"].tolist()


def test_a_name_that_exists_wins_over_a_number():
    assert [FOLDERS[i] for i in chosen(FOLDERS, "2", "10", "11", "3")] == ["2", "10", "11", "3"]
    assert chosen(("2019", "2020"), "2020", "2019") == [1, 0]
    assert chosen(("1", "0"), "0", "1") == [1, 0]


def test_a_number_counts_where_no_class_is_called_so():
    assert chosen(("cat", "dog", "7"), "dog", "0", "7", "2") == [1, 0, 2, 2]
    assert chosen(None, "2", 1, num_classes=3) == [2, 1]
    assert chosen(FOLDERS, 2, np.int64(2)) == [2, 2]  # from a program, where a number is a number


@pytest.mark.parametrize(("names", "given", "message"), [
    (("2019", "2020"), "2021", "unknown class '2021'.*'2019', '2020'"), (("cat", "dog"), "do", "Did you mean 'dog'"),
    (("cat", "dog"), "-1", "unknown class '-1'"), (("cat", "dog"), 0.5, "unknown class 0.5"),
    (None, "dog", "'dog' is not a whole number"), (None, "1.5", "'1.5' is not a whole number"),
    (None, "9", "class 9 is out of range")])
def test_other_classes_are_refused_with_the_names(names, given, message):
    with pytest.raises(ValueError, match=message):
        chosen(names, given, num_classes=2)
