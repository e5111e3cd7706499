"""The compiler options for CPU: known to this release, dropped where unknown, none elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core import cpu


@pytest.fixture(autouse=True)
def fresh():
    cpu._known.cache_clear()
    yield
    cpu._known.cache_clear()


def test_this_release_knows_all_of_them():
    assert cpu.compiler_options() == cpu.compiler_options("cpu") == cpu.OPTIONS
    assert cpu.compiler_options("gpu") is None and cpu.compiler_options("tpu") is None


@pytest.mark.parametrize(("name", "value"), [("xla_cpu_of_yesterday", "1"), ("xla_cpu_scheduler_type", "YESTERDAY")])
def test_what_a_release_does_not_know_is_left_out(monkeypatch, name, value):
    kept = dict(list(cpu.OPTIONS.items())[:1])
    monkeypatch.setattr(cpu, "OPTIONS", {**kept, name: value})
    assert cpu.compiler_options() == kept


def test_they_change_the_program_and_not_its_result():
    a, b = jax.random.normal(jax.random.key(0), (2, 256, 256))
    plain, tuned = (jax.jit(lambda a, b: jnp.tanh(a @ b), compiler_options=options).lower(a, b).compile()
                    for options in (None, cpu.compiler_options()))
    assert "ynn" in plain.as_text() and "ynn" not in tuned.as_text()
    np.testing.assert_allclose(plain(a, b), tuned(a, b), atol=1e-5)
