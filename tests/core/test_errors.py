"""Error messages for names outside a fixed set."""

from jaxgen.core.errors import unknown_name


def test_unknown_name_lists_the_options_and_suggests_the_nearest():
    message = str(unknown_name("solver", "huen", ["euler", "heun"]))
    assert message == "unknown solver 'huen': expected one of 'euler', 'heun'. Did you mean 'heun'?"


def test_unknown_name_without_a_near_one_ends_without_a_period():
    assert str(unknown_name("solver", "xyz", ["euler", "heun"])) == (
        "unknown solver 'xyz': expected one of 'euler', 'heun'")
