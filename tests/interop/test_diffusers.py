"""U-Nets in the format of diffusers: round trips, every entry of their configuration, what does not fit."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.interop import load_unet, read_safetensors, save_unet, write_safetensors
from jaxgen.interop.diffusers.unet_export import unet_config
from jaxgen.interop.diffusers.unet_weights import Inputs
from jaxgen.nn.unet import UNet
from tests.interop.cases import CROSSED, SINGLE, TINY, WEIGHTS, make


def edit(directory, **entries):
    """Changes entries of a configuration; ... takes one out."""
    file = directory / "config.json"
    config = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


def config_of(model, context=None):
    return unet_config(model, Inputs(channels=3, context=context))


@pytest.mark.parametrize("options", [
    {**TINY, "symmetric_downsample": False, "flip_sin_to_cos": False, "frequency_shift": 1, "norm_epsilon": 1e-6},
    {**TINY, "down": ("attention_resnet", "resnet"), "up": ("attention", "plain"), "head_dim": 4, "scale_shift": True,
     "middle_scale": 1.4, "middle_norm": False, "out_channels": 6, "dropout": 0.1},
    {**TINY, "scale_shift": True, "middle_norm": True, "num_classes": 5},
    {**TINY, "middle": "plain", "time_embedding": "fourier", "layers": 2},
    {**TINY, "down": ("resnet", "plain"), "middle": "none", "class_embedding": "features"},
    {**CROSSED, "heads": (2, 4), "transformer_layers": 2, "linear_projection": True, "num_classes": 1},
    {**CROSSED, "down": ("cross_attention", "attention"), "up": ("cross_attention", "plain"), "head_dim": 4,
     "heads": (2, 4), "middle": "none"},
])
def test_ours_come_back_as_they_were(options, tmp_path):
    model, params = make(options)
    save_unet(tmp_path / "new", model, params)
    loaded = load_unet(tmp_path / "new")
    chex.assert_trees_all_equal(loaded.params, params)
    attributes = {"heads": (1, 1), **options}  # of cross-attention
    assert {name: getattr(loaded.model, name) for name in attributes} == attributes
    assert loaded.config["in_channels"] == 3 and loaded.config["sample_size"] is None


def test_an_embedding_network_of_classes_comes_back(tmp_path):
    model, params = make({**SINGLE, "class_embedding": "time"}, classes=True)
    save_unet(tmp_path, model, params)
    loaded = load_unet(tmp_path)
    chex.assert_trees_all_equal(loaded.params, params)
    assert loaded.model.class_embedding == "time"
    # Without such a network in its parameters the same model takes no classes.
    save_unet(tmp_path, model, {name: value for name, value in params.items() if name != "class_embedding"})
    assert load_unet(tmp_path).config["class_embed_type"] is None


def test_tensors_have_the_names_and_layouts_of_the_format(tmp_path):
    """Names as published state dicts have them, shapes [out, in, height, width] and [out, in]."""
    model, params = make({**CROSSED, "up": ("attention", "cross_attention"), "head_dim": 2, "heads": (2, 2)})
    save_unet(tmp_path, model, params)
    tensors = read_safetensors(tmp_path / WEIGHTS)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {
        "conv_in.weight": (8, 3, 3, 3), "conv_in.bias": (8,),
        "conv_norm_out.weight": (8,), "conv_out.weight": (3, 8, 3, 3),
        "time_embedding.linear_1.weight": (32, 8), "time_embedding.linear_2.bias": (32,),
        "down_blocks.0.resnets.0.time_emb_proj.weight": (8, 32),
        "down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),
        "down_blocks.1.resnets.0.conv_shortcut.weight": (16, 8, 1, 1),
        "down_blocks.0.attentions.0.norm.weight": (8,), "down_blocks.0.attentions.0.proj_in.weight": (8, 8, 1, 1),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (8, 6),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias": (8,),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (64, 8),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": (8, 32),
        "down_blocks.0.attentions.0.transformer_blocks.0.norm3.bias": (8,),
        "mid_block.resnets.1.norm2.weight": (16,), "mid_block.attentions.0.proj_out.bias": (16,),
        "up_blocks.0.attentions.0.group_norm.weight": (16,), "up_blocks.0.attentions.0.to_out.0.weight": (16, 16),
        "up_blocks.0.upsamplers.0.conv.weight": (16, 16, 3, 3), "up_blocks.1.resnets.0.conv1.weight": (8, 24, 3, 3),
    }
    assert {name: shapes.get(name) for name in wanted} == wanted
    assert not any("_0" in name.replace("linear_", "") for name in tensors)
    kernel = np.asarray(params["conv_in"]["kernel"])
    assert all(tensors["conv_in.weight"][o, i, h, w] == kernel[h, w, i, o] for h, w, i, o in np.ndindex(kernel.shape))
    np.testing.assert_array_equal(tensors["time_embedding.linear_1.weight"],
                                  params["time_embedding"]["linear_1"]["kernel"].T)


@pytest.mark.parametrize("group_norm", ["group_norm", "norm"])
def test_old_names_of_attention_are_read(group_norm, tmp_path):
    model, params = make(TINY)
    save_unet(tmp_path, model, params)
    tensors = read_safetensors(tmp_path / WEIGHTS)
    names = {"group_norm": group_norm, "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    assert "mid_block.attentions.0.proj_attn.bias" in tensors and "mid_block.attentions.0.to_q.bias" not in tensors
    write_safetensors(tmp_path / WEIGHTS, tensors)
    chex.assert_trees_all_equal(load_unet(tmp_path).params, params)


def test_dtypes_shards_and_sub_folders(tmp_path):
    model, params = make(SINGLE)
    half = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf).astype(jnp.bfloat16)), params)
    save_unet(tmp_path / "unet", model, half)
    loaded = load_unet(tmp_path)
    assert loaded.model.dtype is None and loaded.model.param_dtype == jnp.float32
    chex.assert_trees_all_equal(loaded.params, jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), half))
    loaded = load_unet(tmp_path, dtype=jnp.bfloat16)
    assert loaded.model.dtype == loaded.model.param_dtype == jnp.bfloat16
    chex.assert_trees_all_equal_shapes_and_dtypes(loaded.params, half)
    tensors = read_safetensors(tmp_path / "unet" / WEIGHTS, dtype=None)
    write_safetensors(tmp_path / "unet" / WEIGHTS, tensors, shard_bytes=2000)
    assert not (tmp_path / "unet" / WEIGHTS).exists()
    chex.assert_trees_all_equal(load_unet(tmp_path, dtype=jnp.bfloat16).params, half)


def test_fourier_frequencies_stay_float32_in_a_bfloat16_model(tmp_path):
    model, params = make({**SINGLE, "time_embedding": "fourier"})
    save_unet(tmp_path, model, params)
    loaded = load_unet(tmp_path, dtype=jnp.bfloat16).params
    np.testing.assert_array_equal(loaded["time_proj"]["weight"], params["time_proj"]["weight"])
    assert loaded["time_proj"]["weight"].dtype == jnp.float32 and loaded["conv_in"]["kernel"].dtype == jnp.bfloat16


def test_entries_that_are_not_there_are_the_defaults(tmp_path):
    model, params = make({"channels": (32,), "down": ("plain",), "head_dim": 8})
    save_unet(tmp_path, model, params)
    edit(tmp_path, **dict.fromkeys((
        "norm_num_groups", "norm_eps", "layers_per_block", "attention_head_dim", "in_channels", "dropout", "act_fn",
        "downsample_padding", "flip_sin_to_cos", "freq_shift", "mid_block_scale_factor", "class_embed_type",
    ), ...), _diffusers_version="0.0.4", decay=0.999, an_entry_of_another_version=None)
    assert "norm_eps" not in (tmp_path / "config.json").read_text()
    loaded = load_unet(tmp_path)
    assert loaded.config["norm_eps"] == 1e-5 and loaded.model.layers == 2 and loaded.model.norm_groups == 32
    chex.assert_trees_all_equal(loaded.params, params)


@pytest.mark.parametrize(("entries", "message"), [
    ({"_class_name": "UNet1DModel"}, "unknown _class_name 'UNet1DModel'.*Did you mean 'UNet2DModel'"),
    ({"act_fn": "gelu"}, "UNet2DModel with act_fn='gelu' cannot be loaded: .* needs 'silu' or 'swish'"),
    ({"center_input_sample": True}, "center_input_sample=True"),
    ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift='spatial'.* needs 'default' or 'scale_shift'"),
    ({"time_embedding_type": "learned"}, "time_embedding_type='learned'"),
    ({"time_embedding_dim": 512}, r"time_embedding_dim=512.* needs None or 4 \* block_out_channels\[0\] = 32"),
    ({"class_embed_type": "projection"}, "class_embed_type='projection'"),
    ({"num_class_embeds": 1}, "num_class_embeds=1.* needs 2 or more"),
    ({"norm_num_groups": None}, "norm_num_groups=None"),
    ({"attn_norm_num_groups": 2}, "attn_norm_num_groups=2.* needs None or norm_num_groups = 4"),
    ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type='UNetMidBlock2DCrossAttn'"),
    ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "unknown entry of down_block_types.* 'SkipDownBlock2D'"),
    ({"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}, "unknown entry of up_block_types in UNet2DModel"),
    ({"block_out_channels": [8]}, "must have the same length"),
    ({"layers_per_block": [1, 2]}, r"layers_per_block=\[1, 2\].*the same whole number on every level"),
    ({"attention_head_dim": [8, 8]}, r"attention_head_dim=\[8, 8\].*a number or None"),
    ({"resnet_pre_norm": False}, "has an entry resnet_pre_norm=False that is not known here"),
])
def test_entries_that_cannot_be_honoured_are_named(entries, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**config_of(UNet(**TINY)), **entries}))
    with pytest.raises(ValueError, match=message):
        load_unet(tmp_path)


@pytest.mark.parametrize(("entries", "message"), [
    ({"dual_cross_attention": True}, "UNet2DConditionModel with dual_cross_attention=True cannot be loaded"),
    ({"only_cross_attention": True}, "only_cross_attention=True"),
    ({"only_cross_attention": [True, False]}, r"only_cross_attention=\[True, False\]"),
    ({"addition_embed_type": "text_time"}, "addition_embed_type='text_time'"),
    ({"encoder_hid_dim": 64}, "encoder_hid_dim=64"),
    ({"conv_in_kernel": 1}, "conv_in_kernel=1.* needs 3"),
    ({"time_cond_proj_dim": 256}, "time_cond_proj_dim=256"),
    ({"reverse_transformer_layers_per_block": [[1], [1]]}, "reverse_transformer_layers_per_block="),
    ({"num_attention_heads": 8}, "num_attention_heads=8"),
    ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "needs 'UNetMidBlock2DCrossAttn' or None"),
    ({"down_block_types": ["CrossAttnDownBlock2D", "KDownBlock2D"]}, "unknown entry.*Did you mean"),
    ({"cross_attention_dim": [6, 7]}, r"cross_attention_dim=\[6, 7\].*the same whole number on every level"),
    ({"attention_head_dim": [8, 8, 8]}, "must be one value or one per level, of which there are 2"),
    ({"attention_head_dim": None}, "the number of heads of each level with cross-attention"),
    ({"attention_head_dim": [2, 8], "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D"]},
     "one value for all levels of AttnDownBlock2D and AttnUpBlock2D"),
])
def test_entries_of_conditional_models_that_cannot_be_honoured_are_named(entries, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**config_of(UNet(**CROSSED), context=6), **entries}))
    with pytest.raises(ValueError, match=message):
        load_unet(tmp_path)


@pytest.mark.parametrize(("entries", "message"), [
    ({"norm_eps": "1e-5"}, "norm_eps='1e-5', but norm_eps must be a number above 0"),
    ({"norm_eps": float("nan")}, "norm_eps=nan, but norm_eps must be a number above 0"),
    ({"norm_eps": 0}, "norm_eps=0, but"), ({"norm_eps": True}, "norm_eps=True, but"),
    ({"in_channels": "3"}, "in_channels='3', but in_channels must be a whole number from 1"),
    ({"out_channels": 3.0}, "out_channels=3.0, but"), ({"out_channels": None}, "out_channels=None, but"),
    ({"block_out_channels": []}, r"block_out_channels=\[\], but .* a list, each entry a whole number from 1"),
    ({"block_out_channels": [8, 0]}, r"block_out_channels=\[8, 0\], but"),
    ({"block_out_channels": 8}, "block_out_channels=8, but"), ({"layers_per_block": -1}, "layers_per_block=-1, but"),
    ({"layers_per_block": 10**9}, "layers_per_block=1000000000, but .* to 1000"),
    ({"down_block_types": "DownBlock2D"}, "down_block_types='DownBlock2D', but"),
    ({"down_block_types": [None, "AttnDownBlock2D"]}, r"down_block_types=\[None, .* each entry a name"),
    ({"norm_num_groups": "4"}, "norm_num_groups='4', but"),
    ({"norm_num_groups": 3}, r"norm_num_groups=3.* needs a divisor of all channels \(8, 16\)"),
    ({"dropout": 1.5}, "dropout=1.5, but dropout must be a number from 0 to below 1"),
    ({"flip_sin_to_cos": "false"}, "flip_sin_to_cos='false', but flip_sin_to_cos must be true or false"),
    ({"num_class_embeds": "10"}, "num_class_embeds='10', but"), ({"class_embed_type": [None]}, "class_embed_type="),
    ({"mid_block_scale_factor": 0}, "mid_block_scale_factor=0, but"),
    ({"_class_name": ["UNet2DModel"]}, r"_class_name=\['UNet2DModel'\], but _class_name must be a name"),
])
def test_entries_of_another_type_are_named_when_the_file_is_read(entries, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**config_of(UNet(**TINY)), **entries}))
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        load_unet(tmp_path)


def test_variants_of_the_weights_are_loaded_by_name(tmp_path):
    model, params = make(SINGLE)
    save_unet(tmp_path, model, params)
    (tmp_path / WEIGHTS).rename(tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(FileNotFoundError, match="it has diffusion_pytorch_model.fp16.safetensors; give variant='fp16'"):
        load_unet(tmp_path)
    chex.assert_trees_all_equal(load_unet(tmp_path, variant="fp16").params, params)


def test_one_value_per_level_may_be_a_list(tmp_path):
    save_unet(tmp_path, *make(CROSSED))
    edit(tmp_path, layers_per_block=[1, 1], cross_attention_dim=[6, 6], transformer_layers_per_block=[1, 1],
         only_cross_attention=[False, False], attention_head_dim=[2, 4])
    assert load_unet(tmp_path).model.heads == (2, 4)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    save_unet(tmp_path, *make(SINGLE))
    tensors = read_safetensors(tmp_path / WEIGHTS)

    def fails(tensors, message):
        write_safetensors(tmp_path / WEIGHTS, tensors)
        with pytest.raises(ValueError, match=f"{WEIGHTS} does not fit the U-Net: {message}$"):
            load_unet(tmp_path)

    name = "down_blocks.0.resnets.0.time_emb_proj.weight"
    fails({n: t for n, t in tensors.items() if n != name}, rf"missing: {name} \[8, 32\]")
    fails({**tensors, "extra.weight": np.zeros((2, 3))}, r"unexpected: extra\.weight \[2, 3\]")
    wrong = np.zeros((8, 4, 3, 3))
    fails({**tensors, "conv_in.weight": wrong},
          r"wrong shape: conv_in\.weight \(found \[8, 4, 3, 3\], wanted \[8, 3, 3, 3\]\)")
    for dtype in (np.int64, np.complex64, bool):
        fails({**tensors, "conv_in.bias": np.zeros(8, dtype)},
              rf"not floating point: conv_in\.bias \({np.dtype(dtype)}\)")
    fails({f"module.{n}": t for n, t in tensors.items()},
          r"missing: conv_in\.bias \[8\],.* and \d+ more; unexpected: module\.conv_in.* and \d+ more")


def test_an_old_name_next_to_todays_is_unexpected(tmp_path):
    save_unet(tmp_path, *make({**SINGLE, "down": ("attention",)}))
    name = "down_blocks.0.attentions.0.query.weight"
    write_safetensors(tmp_path / WEIGHTS, {**read_safetensors(tmp_path / WEIGHTS), name: np.zeros((8, 8))})
    with pytest.raises(ValueError, match=rf"unexpected: {name} \[8, 8\]$"):
        load_unet(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither .*config\.json nor .*unet/config\.json is there"):
        load_unet(tmp_path)
    save_unet(tmp_path / "unet", *make(SINGLE))
    (tmp_path / "unet" / WEIGHTS).rename(tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"it has diffusion_pytorch_model\.bin, pickled weights, which are not"):
        load_unet(tmp_path)


@pytest.mark.parametrize(("options", "message"), [
    ({**TINY, "patch_size": 2}, "a UNet with patch_size=2 cannot be saved for diffusers"),
    ({**TINY, "time_scale": 1000.0}, "time_scale=1000.0 cannot"),
    ({**TINY, "norm_groups": 16}, r"norm_groups=16 cannot .*: it must divide all channels \(8, 16\)"),
    ({**TINY, "middle_norm": False}, "middle_norm=False cannot .* only with scale_shift=True"),
    ({**TINY, "channels": (8, 8, 8), "down": ("attention", "attention_resnet", "plain")},
     "'attention' or 'attention_resnet' levels, not both"),
    ({**CROSSED, "middle": "attention"}, "middle='attention' cannot"),
    ({**CROSSED, "time_embedding": "fourier"}, "time_embedding='fourier' cannot"),
    ({**CROSSED, "down": ("attention_resnet", "cross_attention")}, "it has no 'attention_resnet'"),
    ({**CROSSED, "down": ("cross_attention", "attention"), "head_dim": 4},
     "head_dim=4 cannot .* next to the 2 heads of cross_attention .* on level 0"),
])
def test_what_diffusers_cannot_express_is_named(options, message, tmp_path):
    model = UNet(**options)
    params = make(CROSSED if "cross_attention" in model.down else TINY)[1]  # an error comes before they are compared
    with pytest.raises(ValueError, match=message):
        save_unet(tmp_path / "new", model, params)
    assert not (tmp_path / "new").exists()


def test_parameters_of_another_model_are_not_saved(tmp_path):
    model, params = make(SINGLE)
    with pytest.raises(ValueError, match=r'must be the tree variables\["params"\] of a UNet; it has \[\'params\'\]'):
        save_unet(tmp_path, model, {"params": params})
    with pytest.raises(ValueError, match=r"params does not fit.*missing: down_blocks\.0\.resnets\.1\.conv1\.bias"):
        save_unet(tmp_path, model.clone(layers=2), params)
