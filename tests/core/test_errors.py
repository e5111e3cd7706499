from jaxgen.core.errors import unknown_name


def test_unknown_name_lists_the_options_and_suggests_the_nearest():
    message = str(unknown_name("solver", "huen", ["euler", "heun"]))
    assert message == "unknown solver 'huen': expected one of 'euler', 'heun'. Did you mean 'heun'?"


def test_unknown_name_suggests_nothing_when_nothing_is_near():
    assert "Did you mean" not in str(unknown_name("solver", 3, ["euler", "heun"]))
