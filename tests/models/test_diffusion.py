"""Diffusion models: conditions, text, and what goes through whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models, nn
from jaxgen.diffusion import edm_coefficients
from jaxgen.nn import encode_text

# As small as a U-Net gets: what is tested here stands around it, and compiling it is what costs.
NETWORK = {"name": "unet", "channels": (8,), "layers": 1, "down": ("plain",), "middle": "none", "norm_groups": 4}
SHAPE = (8, 8, 1)


def made(seed=0, **kwargs):
    """A model and parameters that are random everywhere, so that nothing hides behind a zero."""
    model = models.build("diffusion", shape=SHAPE, **kwargs)
    params = jax.eval_shape(lambda key: model.init(key, SHAPE).params, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(seed)
    return model, jax.tree.unflatten(tree, [0.3 * generator.standard_normal(a.shape).astype(np.float32)
                                            for a in leaves])


X = np.random.default_rng(5).normal(size=(3, *SHAPE)).astype(np.float32)
SIGMA = np.float32([0.1, 1.0, 20.0])


def test_the_denoiser_is_edms_combination_of_input_and_network():
    model, params = made(network=NETWORK)
    network = nn.UNet(out_channels=1, **{k: v for k, v in NETWORK.items() if k != "name"})
    wide = (slice(None), None, None, None)

    @jax.jit
    def run(params):
        c_skip, c_out, c_in, c_noise = edm_coefficients(SIGMA)
        seen = network.apply({"params": params["network"]}, c_in[wide] * X, c_noise)
        return model.denoise(params, X, SIGMA), c_skip[wide] * X + c_out[wide] * seen, seen

    found, expected, seen = run(params)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(seen).max() > 0.1


def test_classes_change_the_answer_and_none_is_a_class_of_its_own():
    model, params = made(network=NETWORK, conditions={"name": "classes", "count": 4})
    denoise = jax.jit(model.denoise)
    answers = jax.device_get([denoise(params, X, SIGMA, {"classes": np.full(3, c)}) for c in range(5)])
    for i in range(5):
        assert all(np.abs(answers[i] - answers[j]).max() > 1e-3 for j in range(i))
    np.testing.assert_array_equal(denoise(params, X, SIGMA, model.null(3)), answers[4])
    with pytest.raises(ValueError, match=r"classes must lie within 0 \.\. 3, or be 4 for none, got 5"):
        model.denoise(params, X, SIGMA, {"classes": np.array([0, 5, 1])})
    with pytest.raises(ValueError, match=r"'text', but this model takes 'classes'"):
        model.denoise(params, X, SIGMA, {"text": np.zeros((3, 4), int)})


def test_a_network_of_other_classes_is_refused():
    network = nn.UNet(num_classes=4, out_channels=1, **{k: v for k, v in NETWORK.items() if k != "name"})
    with pytest.raises(ValueError, match="the network has num_classes=4, but the conditions are of 3 classes"):
        models.DiffusionModel(network=network, sample_shape=SHAPE, conditions=models.Classes(3))
    models.DiffusionModel(network=network, sample_shape=SHAPE)  # draws without a class only


def test_text_acts_through_its_encoding_once_or_every_time():
    network = {**NETWORK, "layers": 0, "up": ("cross_attention",), "heads": 2}
    text = {"name": "text", "length": 12, "features": 8, "depth": 1, "heads": 2}
    model, params = made(network=network, conditions=text)
    cond = {"text": np.asarray(encode_text(["red heart", "cat", ""], 12))}

    def loss(params, cond):
        answer = model.denoise(params, X, SIGMA, cond)
        return jnp.sum(answer ** 2), answer

    @jax.jit
    def run(params, cond):
        others = [model.denoise(params, X, SIGMA, c) for c in (model.encode(params, cond), model.null(3))]
        return jax.grad(loss, has_aux=True)(params, cond), others

    (gradient, answer), (once, none) = jax.device_get(run(params, cond))
    np.testing.assert_allclose(once, answer, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(none[2], answer[2], rtol=1e-5, atol=1e-6)  # "" is "no condition"
    assert np.abs(none[:2] - answer[:2]).max() > 1e-4
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert max(np.abs(g).max() for g in jax.tree.leaves(gradient["text"])) > 1e-3


def test_dropout_acts_with_a_key_only():
    model, params = made(network={**NETWORK, "dropout": 0.5})
    plain, again, dropped = jax.device_get(jax.jit(lambda params, key: [
        model.denoise(params, X, SIGMA, key=k) for k in (None, None, key)])(params, jax.random.key(0)))
    np.testing.assert_array_equal(plain, again)
    assert np.abs(plain - dropped).max() > 1e-3


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"network": {"name": "unett"}}, "Did you mean 'unet'"),
    ({"network": NETWORK, "kind": "eps"}, "needs the schedule"),
    ({"network": NETWORK, "kind": "v", "schedule": {"name": "cosin"}}, "Did you mean 'cosine'"),
    ({"network": NETWORK, "conditions": {"name": "text", "length": 4, "width": 3}},
     "unknown argument of conditions 'text' 'width'|unknown argument of TextEncoder 'width'"),
    ({"network": NETWORK, "text": {"length": 4}}, "unknown argument of model 'diffusion' 'text'"),
    ({"network": NETWORK, "num_classes": 3}, "unknown argument of model 'diffusion' 'num_classes'"),
    ({"network": {**NETWORK, "layer": 1}}, "Did you mean 'layers'"),
    ({"network": {**NETWORK, "time_embedding": "fourier"}, "kind": "edm"}, "below 0 where noise is small"),
])
def test_mistakes_in_a_description_name_themselves(kwargs, message):
    with pytest.raises(ValueError, match=message):
        model = models.build("diffusion", shape=SHAPE, **kwargs)
        model.denoise({}, X, SIGMA)
