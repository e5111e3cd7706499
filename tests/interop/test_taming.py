"""VQGANs of taming-transformers: names, sizes read off the tensors, what does not fit, renumbered codes, the loss."""

import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.interop import from_used, load_taming_vqgan, published_vq, to_used, write_safetensors
from jaxgen.interop.diffusers.autoencoder_names import taming_layout
from jaxgen.interop.state_dict import to_tensors
from tests.interop.autoencoders import vq_model

USED = np.array([5, 0, 3], np.int64)


@pytest.fixture(scope="module")
def saved():
    """A model and its state dict under taming's names."""
    model, variables = vq_model(attention=(1,), norm_groups=32)
    return model, variables, to_tensors(variables.params, variables.params, "params", taming_layout())


def load(tmp_path, tensors, **options):
    write_safetensors(tmp_path / "vqgan.safetensors", tensors)
    return load_taming_vqgan(tmp_path / "vqgan.safetensors", **options)


def test_names_are_those_of_published_state_dicts(saved):
    _, variables, tensors = saved
    wanted = {
        "encoder.conv_in.weight": (4, 3, 3, 3), "encoder.norm_out.weight": (8,), "encoder.conv_out.bias": (2,),
        "encoder.down.0.block.0.norm1.weight": (4,), "encoder.down.0.downsample.conv.weight": (4, 4, 3, 3),
        "encoder.down.1.block.0.nin_shortcut.weight": (8, 4, 1, 1), "encoder.down.1.attn.0.norm.bias": (8,),
        "encoder.down.1.attn.0.q.weight": (8, 8, 1, 1), "encoder.mid.block_1.conv1.weight": (8, 8, 3, 3),
        "encoder.mid.attn_1.proj_out.weight": (8, 8, 1, 1), "encoder.mid.block_2.norm2.bias": (8,),
        "decoder.conv_in.weight": (8, 2, 3, 3), "decoder.mid.attn_1.k.bias": (8,),
        "decoder.up.1.upsample.conv.weight": (8, 8, 3, 3), "decoder.up.1.attn.1.v.weight": (8, 8, 1, 1),
        "decoder.up.0.block.0.nin_shortcut.bias": (4,), "decoder.norm_out.bias": (4,), "decoder.conv_out.bias": (3,),
        "quant_conv.weight": (3, 2, 1, 1), "post_quant_conv.bias": (2,), "quantize.embedding.weight": (7, 3),
    }
    assert {name: tensors[name].shape for name in wanted} == wanted
    query = variables.params["encoder"]["middle"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(tensors["encoder.mid.attn_1.q.weight"][..., 0, 0], query.T)


def test_sizes_are_read_off_the_tensors_and_what_belongs_to_training_is_left_out(saved, tmp_path):
    model, variables, tensors = saved
    loss = {"loss.discriminator.main.0.weight": np.zeros((4, 3, 4, 4)), "loss.logvar": np.zeros(())}
    loaded = load(tmp_path, {**tensors, **loss})
    chex.assert_trees_all_equal(loaded.variables, variables)
    for side in ("encoder", "decoder"):
        assert getattr(loaded.model, side) == getattr(model, side)
    assert loaded.used is None and loaded.model.num_codes == 7
    half = load(tmp_path, tensors, dtype=jnp.bfloat16)
    assert half.variables.params["encoder"]["conv_in"]["kernel"].dtype == half.model.decoder.dtype == jnp.bfloat16
    assert half.variables.params["quantizer"]["codebook"].dtype == jnp.float32


def test_a_model_without_attention_at_another_depth(tmp_path):
    model, variables = vq_model(multipliers=(1, 1, 3), norm_groups=32, middle_attention=False, channels=1,
                                encoder={"num_res_blocks": 2}, decoder={"num_res_blocks": 3})
    tensors = to_tensors(variables.params, variables.params, "params", taming_layout())
    loaded = load(tmp_path, tensors)
    assert (loaded.model.encoder, loaded.model.decoder) == (model.encoder, model.decoder)
    chex.assert_trees_all_equal(loaded.variables, variables)


@pytest.mark.parametrize(("change", "message"), [
    ({"quantize.embedding.weight": None, "quantize.embed.weight": np.zeros((7, 3))},
     r"it has no quantize\.embedding\.weight; of the names that begin with 'quantize' it has \['quantize\.embed\.weig"),
    ({"encoder.conv_in.weight": np.zeros((8, 3, 3, 3))},
     r"does not fit the VQGAN: wrong shape: encoder\.conv_in\.weight \(found \[8, 3, 3, 3\], wanted \[4, 3, 3, 3\]\)"),
    ({"encoder.mid.attn_1.q.weight": np.zeros((8, 8))},
     r"encoder\.mid\.attn_1\.q\.weight \(found \[8, 8\], wanted \[8, 8, 1, 1\]\)"),
    ({"decoder.up.1.block.1.norm2.bias": None}, r"missing: decoder\.up\.1\.block\.1\.norm2\.bias \[8\]$"),
    ({"encoder.down.1.block.0.conv1.weight": None}, r"it has no encoder\.down\.1\.block\.0\.conv1\.weight"),
    ({"model_ema.decay": np.zeros(())}, r"unexpected: model_ema\.decay \[\]"),
    ({"quant_conv.weight": np.zeros((4, 2, 1, 1)), "quant_conv.bias": np.zeros(4)},
     r"quant_conv\.weight \(found \[4, 2, 1, 1\], wanted \[3, 2, 1, 1\]\)"),
    ({"post_quant_conv.weight": np.zeros(2)}, r"post_quant_conv\.weight must have 4 axes, got shape \[2\]"),
    ({"encoder.down.0.block.0.conv1.weight": np.zeros((0, 3, 3, 3))}, r"shape \[0, 3, 3, 3\], and none may have"),
    ({"encoder.down.0.block.999999999.x": np.zeros(1)}, r"missing: encoder\.down\.0\.block\.1.*unexpected: .*9999\.x"),
    ({"decoder.up.2.block.0.conv1.weight": np.zeros((8, 8, 3, 3))}, "the decoder"),
    ({"quantize.used": np.array([0, 7])}, r"quantize\.used must hold codes from 0 to 6, got 0 to 7"),
    ({"quantize.used": np.array([0.5])}, r"quantize\.used must hold a list of codes, got float64 \[1\]"),
])
def test_tensors_that_do_not_fit_are_named(saved, change, message, tmp_path):
    tensors = {name: tensor for name, tensor in {**saved[2], **change}.items() if tensor is not None}
    with pytest.raises(ValueError, match=rf"vqgan\.safetensors.*{message}"):
        load(tmp_path, tensors)


def test_a_pickled_checkpoint_is_not_read(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"it has last\.ckpt, pickled weights, which are not read"):
        load_taming_vqgan(tmp_path / "last.safetensors")


def test_renumbered_codes(saved, tmp_path):
    used = load(tmp_path, {**saved[2], "quantize.used": USED}).used
    codes = jnp.array([[0, 5], [3, 4], [6, 1]])
    expected = [[list(USED).index(c) if c in USED else 3 for c in row] for row in codes.tolist()]
    places, with_unknown = jax.jit(lambda codes, used: (to_used(codes, used), to_used(codes, used, unknown=1)))(
        codes, used)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(with_unknown[1], [2, 1])
    np.testing.assert_array_equal(from_used(places, used), [[0, 5], [3, 5], [5, 5]])
    with pytest.raises(ValueError, match=re.escape("indices must lie within 0 .. 3, the quantizer's codes, got 4")):
        from_used(jnp.array([0, 4]), used)
    np.testing.assert_array_equal(jax.jit(from_used)(jnp.array([0, 4, -1, 3]), used), [5, -1, -1, 5])


@pytest.mark.parametrize(("legacy", "to_encoder", "to_codes"), [(True, 1.0, 0.4), (False, 0.4, 1.0)])
def test_beta_scales_the_term_that_it_scaled_in_training_and_a_mask_takes_vectors_out(legacy, to_encoder, to_codes):
    quantizer = published_vq(2, beta=0.4, legacy=legacy)
    codebook, z = np.float32([[1.0, 0.0], [0.0, 4.0]]), np.float32([[1.5, 0.5]])

    def loss(codebook, z):
        output, _ = quantizer.apply(Variables({"codebook": codebook}, {}), z)
        return sum(jnp.mean(term) for term in output.losses.values())

    @jax.jit
    def run(codebook, z):
        two, valid = jnp.concatenate([z, z]), jnp.array([True, False])
        masked, _ = quantizer.apply(Variables({"codebook": codebook}, {}), two, valid=valid)
        return jax.value_and_grad(loss, (0, 1))(codebook, z), masked.losses

    (value, (codes, encoder)), losses = run(codebook, z)
    assert float(value) == pytest.approx(1.4 * 0.25)
    np.testing.assert_allclose(encoder, [[0.5 * to_encoder, 0.5 * to_encoder]], rtol=1e-6)
    np.testing.assert_allclose(codes, [[-0.5 * to_codes, -0.5 * to_codes], [0, 0]], rtol=1e-6)
    assert all(loss[0] > 0 and loss[1] == 0 for loss in losses.values()), losses


@pytest.mark.parametrize("legacy", [True, False])
def test_published_quantizers_compare_and_pickle(legacy):
    quantizer = published_vq(2, beta=0.4, legacy=legacy)
    assert quantizer == published_vq(2, beta=0.4, legacy=legacy) == pickle.loads(pickle.dumps(quantizer))
    assert quantizer != published_vq(2, beta=0.3, legacy=legacy)
