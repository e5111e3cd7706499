import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.quantize import rotation, straight_through

Z = np.array([0.3, -1.2, 0.7, 2.0])
Q = np.array([1.1, 0.4, -0.5, 0.9])


def rotation_by_planes(z, q):
    """The rotation that takes z's direction to q's in their plane, by cosine and sine rather than reflections."""
    u, v = z / np.linalg.norm(z), q / np.linalg.norm(q)
    cosine = u @ v
    across = v - cosine * u
    sine = np.linalg.norm(across)
    across = across / sine
    return (
        np.eye(len(z))
        + (cosine - 1) * (np.outer(u, u) + np.outer(across, across))
        + sine * (np.outer(across, u) - np.outer(u, across))
    )


def jacobian(estimator, z, q):
    forward, backward = (mode(estimator)(np.float32(z), np.float32(q)) for mode in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward, backward, rtol=1e-6, atol=1e-6)
    return np.asarray(backward)


@pytest.mark.parametrize("estimator", [straight_through, rotation])
def test_the_forward_value_is_the_code_where_adding_the_difference_would_round(estimator):
    z, q = np.float32([[1e8, 3.0]]), np.float32([[0.1, 1 / 3]])
    assert not np.array_equal(z + (q - z), q)
    for value in jax.jit(lambda *a: (estimator(*a), jax.vjp(estimator, *a)[0]))(z, q):
        np.testing.assert_array_equal(value, q)


@pytest.mark.parametrize("estimator", [straight_through, rotation])
def test_the_code_gets_no_gradient(estimator):
    assert not np.any(jax.jit(jax.jacobian(estimator, argnums=1))(np.float32(Z), np.float32(Q)))


def test_straight_through_is_the_identity_to_the_gradient():
    np.testing.assert_array_equal(jacobian(straight_through, Z, Q), np.eye(4))


def test_rotation_turns_and_scales_the_gradient_as_the_vector_was():
    j = jacobian(rotation, Z, Q)
    scale = np.linalg.norm(Q) / np.linalg.norm(Z)
    np.testing.assert_allclose(j, scale * rotation_by_planes(Z, Q), rtol=1e-5, atol=1e-6)
    r = j / scale
    np.testing.assert_allclose(r @ r.T, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(r), 1, rtol=1e-5)
    np.testing.assert_allclose(j @ Z, Q, rtol=1e-5)
    upstream = np.array([0.5, -2.0, 1.0, 0.1])
    np.testing.assert_allclose(np.linalg.norm(upstream @ j) / np.linalg.norm(upstream), scale, rtol=1e-5)


@pytest.mark.parametrize("nudge", [0.0, 1e-9, 1e-5, 1e-3])
def test_rotation_stays_orthogonal_where_the_code_points_the_other_way(nudge):
    q = -2 * Z + nudge * np.array([1.0, 1.0, -1.0, 0.5])
    j = jacobian(rotation, Z, q)
    np.testing.assert_allclose(j @ j.T / 4, np.eye(4), atol=2e-3)
    np.testing.assert_allclose(j @ Z, q, rtol=2e-3)


@pytest.mark.parametrize(("z", "q"), [(Z * 0, Q), (Z, Q * 0), (Z * 0, Q * 0)])
def test_rotation_passes_the_gradient_through_where_a_vector_is_zero(z, q):
    np.testing.assert_array_equal(jacobian(rotation, z, q), np.eye(4))


def test_estimators_take_bfloat16_vectors():
    for estimator in (straight_through, rotation):
        value, backward = jax.vjp(jax.jit(lambda z, f=estimator: f(z, np.float32(Q))), Z.astype(jnp.bfloat16))
        assert value.dtype == jnp.float32
        assert backward(np.ones(4, np.float32))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("estimator", [straight_through, rotation])
@pytest.mark.parametrize("mode", [lambda f: f, jax.grad])
def test_codes_of_another_shape_are_refused(estimator, mode):
    with pytest.raises(ValueError, match=r"q must have z's shape \(4,\), .*, got \(1,\)"):
        mode(lambda z: jnp.sum(estimator(z, Q[:1])))(Z)
