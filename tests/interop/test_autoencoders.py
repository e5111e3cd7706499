"""Autoencoders in the format of diffusers: round trips, every entry of their configuration, what does not fit."""

import json
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.interop import (
    load_autoencoder,
    load_taming_vqgan,
    load_unet,
    read_safetensors,
    save_autoencoder,
    save_unet,
    write_safetensors,
)
from jaxgen.interop.diffusers.autoencoder import expected_params
from jaxgen.interop.diffusers.autoencoder_config import complete, decoder_arguments, encoder_arguments, saved_config
from jaxgen.models import KLAutoencoder, build
from jaxgen.nn import Decoder, Encoder
from jaxgen.quantize import gumbel, residual, simvq, vq
from tests.interop.autoencoders import KEY, image, kl_autoencoder, kl_model, replaced, vq_model, vqvae
from tests.interop.cases import SINGLE, WEIGHTS, make

TYPES = ("DownEncoderBlock2D", "UpDecoderBlock2D")


def attributes(module):
    names = ("channels", "multipliers", "num_res_blocks", "attention_levels", "middle_attention", "norm_groups",
             "z_channels")
    return {name: getattr(module, name) for name in names}


@pytest.mark.parametrize(("make", "options"), [
    (kl_model, {"attention": (1,), "shift": 0.25}),
    (kl_model, {"z": None, "middle_attention": False, "channels": 1}),
    (kl_model, {"z": (4, None), "multipliers": (3, 2, 4)}),
    (kl_model, {"z": (None, 2), "encoder": {"attention_levels": (0, 1)}, "decoder": {"attention_levels": (0,)}}),
    (vq_model, {"attention": (1,)}),
    (vq_model, {"latents": 2, "multipliers": (1,), "norm_groups": 4}),
])
def test_ours_come_back_as_they_were(make, options, tmp_path):
    model, variables = make(**options)
    save_autoencoder(tmp_path / "new", model, variables, sample_size=64)
    loaded = load_autoencoder(tmp_path / "new")
    chex.assert_trees_all_equal(loaded.variables, variables)
    assert attributes(loaded.model.encoder) == attributes(model.encoder)
    assert attributes(loaded.model.decoder) == attributes(model.decoder)
    assert type(loaded.model) is type(model) and loaded.config["sample_size"] == 64
    if make is kl_model:
        assert (loaded.model.scale, loaded.model.shift) == (model.scale, model.shift)
    else:
        assert loaded.model.num_codes == 7 and loaded.config["scaling_factor"] == 1


def test_tensors_have_the_names_and_layouts_of_the_format(tmp_path):
    """Names as published state dicts have them; levels on the way up are counted in the order of computation."""
    model, variables = vq_model(attention=(1,))
    save_autoencoder(tmp_path, model, variables)
    tensors = read_safetensors(tmp_path / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {
        "encoder.conv_in.weight": (4, 3, 3, 3), "encoder.conv_norm_out.weight": (8,), "encoder.conv_out.bias": (2,),
        "encoder.down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3),
        "encoder.down_blocks.0.downsamplers.0.conv.weight": (4, 4, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (8, 4, 1, 1),
        "encoder.down_blocks.1.resnets.0.norm1.weight": (4,),
        "encoder.down_blocks.1.attentions.0.group_norm.bias": (8,),
        "encoder.down_blocks.1.attentions.0.to_q.weight": (8, 8),
        "encoder.mid_block.resnets.0.norm2.bias": (8,), "encoder.mid_block.resnets.1.conv2.bias": (8,),
        "encoder.mid_block.attentions.0.to_out.0.weight": (8, 8),
        "quant_conv.weight": (3, 2, 1, 1), "quantize.embedding.weight": (7, 3), "post_quant_conv.weight": (2, 3, 1, 1),
        "decoder.conv_in.weight": (8, 2, 3, 3), "decoder.mid_block.attentions.0.to_v.bias": (8,),
        "decoder.up_blocks.0.resnets.1.conv1.weight": (8, 8, 3, 3),
        "decoder.up_blocks.0.attentions.1.to_k.weight": (8, 8),
        "decoder.up_blocks.0.upsamplers.0.conv.weight": (8, 8, 3, 3),
        "decoder.up_blocks.1.resnets.0.conv_shortcut.weight": (4, 8, 1, 1),
        "decoder.conv_norm_out.weight": (4,), "decoder.conv_out.weight": (3, 4, 3, 3),
    }
    assert {name: shapes.get(name) for name in wanted} == wanted
    assert not any(part in name for name in shapes for part in ("up_blocks.1.upsamplers", "down_blocks.1.downsamplers"))
    kernel = np.asarray(variables.params["encoder"]["conv_in"]["kernel"])
    np.testing.assert_array_equal(tensors["encoder.conv_in.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(tensors["encoder.mid_block.attentions.0.to_q.weight"],
                                  variables.params["encoder"]["middle"]["attention"]["query"]["kernel"].T)


def test_old_names_of_attention_are_read(tmp_path):
    model, variables = kl_model(attention=(1,), shift=0.25)
    save_autoencoder(tmp_path, model, variables)
    tensors = read_safetensors(tmp_path / WEIGHTS)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in tensors
    write_safetensors(tmp_path / WEIGHTS, tensors)
    chex.assert_trees_all_equal(load_autoencoder(tmp_path).variables, variables)


@partial(jax.jit, static_argnums=0)
def forward(model, variables, x):
    return model.forward(variables, x)[:2]


@pytest.mark.parametrize("quantizer", [vq(7), vq(7, ema_decay=0.9), vq(7, revive_below=0.1), simvq(7)])
def test_any_nearest_code_with_or_without_convolutions_is_written_as_what_it_computes(quantizer, tmp_path):
    model, variables = vq_model(quantizer, z=None, middle_attention=False, multipliers=(1,))
    save_autoencoder(tmp_path, model, variables)
    loaded = load_autoencoder(tmp_path)
    assert (loaded.model.encoder.z_channels, loaded.model.decoder.z_channels) == (3, 3)
    x = image()
    (x_r, output), (wanted, of_ours) = forward(loaded.model, loaded.variables, x), forward(model, variables, x)
    np.testing.assert_array_equal(output.indices, of_ours.indices)
    chex.assert_trees_all_close(x_r, wanted, atol=1e-5)


def test_dtypes_and_pipelines_sub_folders(tmp_path):
    model, variables = vq_model(middle_attention=False)
    half = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf).astype(jnp.bfloat16)), variables)
    save_autoencoder(tmp_path / "vqvae", model, half)
    loaded = load_autoencoder(tmp_path, dtype="bfloat16")
    assert loaded.model.encoder.dtype == jnp.bfloat16
    codebook = loaded.variables.params["quantizer"]["codebook"]
    assert codebook.dtype == jnp.float32
    np.testing.assert_array_equal(codebook, half.params["quantizer"]["codebook"].astype(jnp.float32))
    chex.assert_trees_all_equal(loaded.variables.params["encoder"], half.params["encoder"])
    chex.assert_trees_all_equal_dtypes(loaded.variables.params["encoder"], half.params["encoder"])
    wide = load_autoencoder(tmp_path)
    assert wide.model.encoder.dtype is None
    chex.assert_trees_all_equal(wide.variables, jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), half))
    save_autoencoder(tmp_path / "pipeline" / "vae", *kl_model(middle_attention=False))
    assert load_autoencoder(tmp_path / "pipeline").config["_class_name"] == "AutoencoderKL"
    with pytest.raises(FileNotFoundError, match=r"config\.json nor .*vae/config\.json nor .*vqvae/config\.json is the"):
        load_autoencoder(tmp_path / "vqvae" / "none")


@pytest.mark.parametrize(("model", "entries", "message"), [
    (vqvae, {"_class_name": "AutoencoderTiny"}, "unknown _class_name 'AutoencoderTiny'.*'VQModel', 'AutoencoderKL'"),
    (vqvae, {"norm_type": "spatial"}, "VQModel with norm_type='spatial' cannot be loaded: .* needs 'group'"),
    (vqvae, {"act_fn": "gelu"}, "act_fn='gelu'"),
    (vqvae, {"remap": "used.npy"}, "has an entry remap='used.npy' that is not known here"),
    (vqvae, {"out_channels": 1}, "out_channels=1.* needs in_channels = 3"),
    (vqvae, {"norm_num_groups": 3}, r"norm_num_groups=3.* needs a divisor of all channels \(4, 8\)"),
    (vqvae, {"layers_per_block": [1, 1]}, r"layers_per_block=\[1, 1\].* needs one number"),
    (vqvae, {"block_out_channels": [4]}, "the lists of VQModel must have the same length"),
    (vqvae, {"num_vq_embeddings": "7"}, "config.json: VQModel has num_vq_embeddings='7', but .* a whole number"),
    (vqvae, {"mid_block_add_attention": 1}, "mid_block_add_attention=1, but .* must be true or false"),
    (kl_autoencoder, {"scaling_factor": "0.2"}, "scaling_factor='0.2', but scaling_factor must be a number above 0"),
    (kl_autoencoder, {"scaling_factor": 0}, "scaling_factor=0, but"),
    (kl_autoencoder, {"shift_factor": float("inf")}, "shift_factor=inf, but"),
    (kl_autoencoder, {"block_out_channels": [4, None]},
     r"block_out_channels=\[4, None\], but .* each entry a whole number"),
    (kl_autoencoder, {"latents_mean": [0.1, 0.2]}, r"AutoencoderKL with latents_mean=\[0.1, 0.2\] cannot be loaded"),
    (kl_autoencoder, {"latents_std": [1.5, 2.0]}, "latents_std="),
    (kl_autoencoder, {"down_block_types": ["DownEncoderBlock2D", "DownBlock2D"]},
     "unknown entry of down_block_types in AutoencoderKL 'DownBlock2D'.*Did you mean 'DownEncoderBlock2D'"),
    (kl_autoencoder, {"up_block_types": ["UpDecoderBlock2D", "SkipUpBlock2D"]}, "unknown entry of up_block_types"),
])
def test_entries_that_cannot_be_honoured_are_named(model, entries, message, tmp_path):
    config = saved_config(model(), 3, 32)
    (tmp_path / "config.json").write_text(json.dumps({**config, **entries}))
    with pytest.raises(ValueError, match=message):
        load_autoencoder(tmp_path)


def test_a_directory_of_another_kind_names_the_function_that_loads_it(tmp_path):
    save_unet(tmp_path / "unet", *make(SINGLE))
    with pytest.raises(ValueError, match="'UNet2DModel' is not one of 'VQModel', 'AutoencoderKL'.*load_unet$"):
        load_autoencoder(tmp_path / "unet")
    for directory, model in (("kl", kl_model), ("vq", vq_model)):
        save_autoencoder(tmp_path / directory, *model(middle_attention=False))
        with pytest.raises(ValueError, match="is not one of 'UNet2DModel', 'UNet2DConditionModel'.*load_autoencoder$"):
            load_unet(tmp_path / directory)
    with pytest.raises(ValueError, match="kl/.*: no VQGAN of taming-transformers: it has no quantize.embedding"):
        load_taming_vqgan(tmp_path / "kl" / WEIGHTS)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    save_autoencoder(tmp_path, *vq_model(middle_attention=False))
    tensors = read_safetensors(tmp_path / WEIGHTS)

    def fails(tensors, message):
        write_safetensors(tmp_path / WEIGHTS, tensors)
        with pytest.raises(ValueError, match=f"{WEIGHTS} does not fit the autoencoder: {message}$"):
            load_autoencoder(tmp_path)

    name = "decoder.up_blocks.1.resnets.1.norm1.bias"
    fails({n: t for n, t in tensors.items() if n != name}, rf"missing: {name} \[4\]")
    fails({**tensors, "quantize.used": np.arange(3)}, r"unexpected: quantize\.used \[3\]")
    fails({**tensors, "quantize.embedding.weight": np.zeros((8, 3))},
          r"wrong shape: quantize\.embedding\.weight \(found \[8, 3\], wanted \[7, 3\]\)")


@pytest.mark.parametrize(("model", "options", "message"), [
    (kl_autoencoder, {"norm": "none"}, "an autoencoder with encoder.norm='none' cannot be saved for diffusers"),
    (kl_autoencoder, {"patch_size": 2}, "encoder.patch_size=2 cannot"),
    (kl_autoencoder, {"heads": 2}, "encoder.heads=2 cannot"),
    (kl_autoencoder, {"decoder": {"multipliers": (2, 1)}},
     r"decoder.multipliers=\(2, 1\) cannot .* the encoder's is \(1, 2\)"),
    (kl_autoencoder, {"decoder": {"num_res_blocks": 1}},
     "decoder.num_res_blocks=1 cannot .* one more than the encoder"),
    (kl_autoencoder, {"norm_groups": 3}, r"norm_groups=3 cannot .* must divide all channels \(4, 8\)"),
    (kl_autoencoder, {"z": (6, 2)}, "encoder.z_channels=6 cannot .* None or latent_channels = 4"),
    (kl_autoencoder, {"z": (4, 3)}, "decoder.z_channels=3 cannot .* must be the encoder's, 2"),
    (vqvae, {"z": (2, None)}, "decoder.z_channels=None cannot .* must be the encoder's, 2"),
])
def test_what_diffusers_cannot_express_is_named(model, options, message, tmp_path):
    """Before anything is asked of the parameters: here, those of a model that it can express."""
    variables = {kl_autoencoder: kl_model, vqvae: vq_model}[model](middle_attention=False)[1]
    with pytest.raises(ValueError, match=message):
        save_autoencoder(tmp_path / "new", model(**options), variables)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("quantizer", "has"), [(gumbel(7), "'kernel'"), (residual(vq(7), 2), "'codebook'")])
def test_quantizers_without_one_codebook_are_named(quantizer, has, tmp_path):
    model, variables = vq_model(middle_attention=False)
    own, state = quantizer.init(KEY, 3)
    with pytest.raises(ValueError, match=f"a VQVAE whose quantizer has .*{has}.* cannot be saved"):
        save_autoencoder(tmp_path / "new", replace(model, quantizer=quantizer),
                         Variables({**variables.params, "quantizer": own}, state))
    assert not (tmp_path / "new").exists()


def test_what_is_no_autoencoder_is_named(tmp_path):
    model, variables = kl_model(middle_attention=False)
    with pytest.raises(ValueError, match="model must have an encoder and a decoder, .* got Encoder"):
        save_autoencoder(tmp_path, model.encoder, variables)
    with pytest.raises(ValueError, match=r"variables must be the autoencoder's; their params have \['encoder'\]"):
        save_autoencoder(tmp_path, model, Variables({"encoder": variables.params["encoder"]}, {}))
    wrong = {name: leaf for name, leaf in variables.params["decoder"].items() if name != "conv_out"}
    with pytest.raises(ValueError, match=r"variables.params does not fit .*missing: decoder\.conv_out\.bias \[3\]"):
        save_autoencoder(tmp_path, model, replaced(variables, decoder=wrong))
    other = build("vqvae2", latent_channels=2, example_channels=1, bottom_encoder={}, top_encoder={}, top_decoder={},
                  decoder={}, top_quantizer={"name": "vq", "num_codes": 4},
                  bottom_quantizer={"name": "vq", "num_codes": 4})
    with pytest.raises(ValueError, match="got VQVAE2"):
        save_autoencoder(tmp_path, other, variables)


STABLE_DIFFUSION = {
    "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512], "down_block_types": [TYPES[0]] * 4, "in_channels": 3,
    "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "up_block_types": [TYPES[1]] * 4,
}


def test_the_published_configuration_has_its_number_of_parameters():
    config = complete(STABLE_DIFFUSION)
    encoder, decoder = Encoder(**encoder_arguments(config)), Decoder(**decoder_arguments(config))
    params = expected_params(KLAutoencoder(encoder=encoder, decoder=decoder), 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 83_653_863
    z = jax.eval_shape(lambda key: encoder.init_with_output(key, jnp.zeros((1, 512, 512, 3)))[0], KEY)
    assert z.shape == (1, 64, 64, 8)
