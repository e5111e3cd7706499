"""The U-Net and its weights against diffusers: published layouts at reduced width, both directions."""

import inspect
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from jaxgen.interop import load_unet, save_unet  # noqa: E402
from jaxgen.interop.diffusers.schedule import BETAS, FLOWS  # noqa: E402
from jaxgen.interop.diffusers.unet_config import DEFAULTS  # noqa: E402
from jaxgen.nn.unet import UNet  # noqa: E402
from tests.parity.unets import (  # noqa: E402
    PLAIN,
    TINY,
    blocks,
    conditional,
    context,
    draw,
    inputs,
    ours,
    theirs,
    unconditional,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
TOLERANCE = 5e-5  # of outputs whose largest entries are between 1 and 10; rounding is 5e-6


def check(model, directory, size, **condition):
    """Saves theirs, loads it here, compares; `condition` has their names."""
    model.save_pretrained(directory)
    return compare(model, load_unet(directory), size, **condition)


def compare(model, loaded, size, **condition):
    renamed = {"encoder_hidden_states": "context", "class_labels": "classes", "encoder_attention_mask": "context_mask"}
    x, time = inputs(model, size)
    wanted = theirs(model, x, time, **condition)
    got = ours(loaded, x, time, **{renamed[name]: value for name, value in condition.items()})
    assert 0.5 < np.abs(wanted).max() < 20
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE)
    return loaded


def ddpm_cifar10(**config):
    return unconditional(**{
        "block_out_channels": (32, 64, 64, 64), "down_block_types": blocks("Down", "", "Attn", "", ""),
        "up_block_types": blocks("Up", "", "", "Attn", ""), "attention_head_dim": None, "downsample_padding": 0,
        "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6, **config,
    })


def ddpm_celebahq():
    return ddpm_cifar10(
        block_out_channels=(32, 32, 32, 64, 64, 64), down_block_types=blocks("Down", *[""] * 4, "Attn", ""),
        up_block_types=blocks("Up", "", "Attn", *[""] * 4),
    )


def ldm_celebahq():
    return unconditional(
        block_out_channels=(32, 64, 96, 64), down_block_types=blocks("Down", "", "Attn", "Attn", "Attn"),
        up_block_types=blocks("Up", "Attn", "Attn", "Attn", ""), attention_head_dim=16,
    )


def stable_diffusion():
    return conditional(
        block_out_channels=(32, 64, 64, 96), down_block_types=blocks("Down", *["CrossAttn"] * 3, ""),
        up_block_types=blocks("Up", "", *["CrossAttn"] * 3), attention_head_dim=8,
    )


@pytest.mark.parametrize(("build", "size"), [(ddpm_cifar10, 16), (ddpm_celebahq, 32), (ldm_celebahq, 16)])
def test_published_layouts(build, size, tmp_path):
    check(build(), tmp_path, size)


def test_stable_diffusion(tmp_path):
    model = stable_diffusion()
    loaded = check(model, tmp_path, 16, encoder_hidden_states=context())
    # A size that four levels cannot halve: theirs repeats pixels to the size of the way down, then convolves.
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    compare(model, loaded, (13, 18), encoder_hidden_states=context(), encoder_attention_mask=mask)


@pytest.mark.parametrize("crossed", [False, True])
def test_what_norms_add_to_a_variance(crossed, tmp_path):
    """Features so faint that their variance is about that number."""
    attention = {"down_block_types": blocks("Down", "CrossAttn"), "up_block_types": blocks("Up", "CrossAttn")}
    model = conditional(**{**TINY, **attention}) if crossed else unconditional(**TINY, norm_eps=1e-6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("conv_in", "conv2", "proj_in", "to_out", "net.2")):
                parameter *= 2e-3
    check(model, tmp_path, 8, **({"encoder_hidden_states": context()} if crossed else {}))


@pytest.mark.parametrize("options", [
    # Stable Diffusion 2: heads per level, linear projections.
    {"attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True,
     "transformer_layers_per_block": 2, "layers_per_block": [1, 1], "cross_attention_dim": (24, 24)},
    # Attention among pixels on the way up takes its entry of the list without reversal: channels per head.
    {"block_out_channels": (32, 64, 64), "attention_head_dim": (16, 2, 4), "layers_per_block": 1, "dropout": 0.1,
     "down_block_types": blocks("Down", "Attn", "CrossAttn", "Resnet"),
     "up_block_types": blocks("Up", "Attn", "CrossAttn", "")},
    {"mid_block_type": None, "layers_per_block": 1, "norm_num_groups": 16, "norm_eps": 1e-3, "num_class_embeds": 5},
])
def test_conditional_configurations(options, tmp_path):
    levels = {"down_block_types": blocks("Down", "CrossAttn", "CrossAttn"),
              "up_block_types": blocks("Up", "CrossAttn", "CrossAttn")}
    condition = {"class_labels": torch.tensor([1, 4])} if "num_class_embeds" in options else {}
    check(conditional(**{**levels, **options}), tmp_path, 8, encoder_hidden_states=context(), **condition)


SHIFTED = {
    "resnet_time_scale_shift": "scale_shift", "down_block_types": blocks("Down", "Attn", "Resnet"),
    "up_block_types": blocks("Up", "Attn", "Resnet"), "downsample_type": "resnet", "upsample_type": "resnet",
    "mid_block_scale_factor": 1.4, "layers_per_block": 1,
}
@pytest.mark.parametrize(("options", "classes"), [
    ({**SHIFTED, "time_embedding_type": "fourier"}, None),
    ({**SHIFTED, "attn_norm_num_groups": 8, "down_block_types": blocks("Down", "Resnet", "Attn")}, None),
    ({**PLAIN, "num_class_embeds": 6, "add_attention": False}, torch.tensor([0, 5])),
    ({**PLAIN, "class_embed_type": "timestep", "mid_block_type": None}, torch.tensor([2.0, 11.5])),
    ({**PLAIN, "class_embed_type": "identity"}, 0.3 * torch.randn(2, 128, generator=torch.Generator().manual_seed(3))),
])
def test_unconditional_configurations(options, classes, tmp_path):
    check(unconditional(**options), tmp_path, 8, **({} if classes is None else {"class_labels": classes}))


def test_attention_under_the_names_of_old_files(tmp_path):
    model = unconditional(**TINY)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    assert sum("query" in name for name in tensors) == 8
    save_file(tensors, tmp_path / WEIGHTS)
    compare(model, load_unet(tmp_path), 8)
    today = diffusers.UNet2DModel.from_pretrained(tmp_path)
    assert all((today.state_dict()[name] == tensor).all() for name, tensor in model.state_dict().items())


def test_entries_that_a_file_leaves_out_are_the_defaults_of_diffusers(tmp_path):
    for name, defaults in DEFAULTS.items():
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert {k: p.default for k, p in signature.items() if k != "self"} == defaults
    for name, ends in BETAS.items():
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert tuple(signature[k].default for k in ("beta_start", "beta_end", "beta_schedule")) == ends, name
        assert signature["num_train_timesteps"].default == 1000 and signature["prediction_type"].default == "epsilon"
    for name in FLOWS:
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert (signature["shift"].default, signature["num_train_timesteps"].default) == (1.0, 1000)
    model = unconditional(**TINY)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    defaults = json.loads(json.dumps(DEFAULTS["UNet2DModel"]))
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != defaults.get(k, "")}))
    assert "norm_eps" not in (tmp_path / "config.json").read_text()
    compare(model, load_unet(tmp_path), 8)


def test_files_in_half_precision_and_in_several_pieces(tmp_path):
    model = unconditional(**TINY)
    model.save_pretrained(tmp_path / "pieces", max_shard_size="300KB")
    assert len(list((tmp_path / "pieces").glob("*.safetensors"))) > 2
    whole = compare(model, load_unet(tmp_path / "pieces"), 8)
    for dtype in (torch.bfloat16, torch.float16):
        model.to(dtype).save_pretrained(tmp_path / "half")
        rounded = model.to(torch.float32)
        half = load_unet(tmp_path / "half")
        assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {jnp.dtype("float32")}
        mine = half.params["conv_in"]["bias"]
        np.testing.assert_array_equal(mine, rounded.conv_in.bias.detach().numpy())
        np.testing.assert_allclose(mine, whole.params["conv_in"]["bias"], rtol=0.01)


def test_the_command_that_converts_pickled_weights_works(tmp_path):
    model = unconditional(**TINY)
    model.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(FileNotFoundError, match="pickled weights") as raised:
        load_unet(tmp_path)
    _, *arguments = shlex.split(str(raised.value)[str(raised.value).index("python -c") :])
    subprocess.run([sys.executable, *arguments], check=True)
    compare(model, load_unet(tmp_path), 8)


OURS = [
    {"down": ("plain", "attention"), "num_classes": 3, "symmetric_downsample": False, "flip_sin_to_cos": False,
     "frequency_shift": 1, "dropout": 0.1, "remat": True},
    {"down": ("attention_resnet", "resnet"), "up": ("attention", "plain"), "head_dim": 16, "scale_shift": True,
     "middle": "plain", "norm_groups": 8, "norm_epsilon": 1e-4},
    {"down": ("resnet", "plain"), "scale_shift": True, "middle_norm": False, "middle_scale": 1.3, "out_channels": 6},
    {"down": ("resnet", "plain"), "scale_shift": True, "class_embedding": "time"},
    {"down": ("cross_attention", "attention"), "up": ("cross_attention", "plain"), "middle": "cross_attention",
     "heads": (2, 4), "head_dim": 4, "transformer_layers": 2, "linear_projection": True},
    {"down": ("cross_attention", "plain"), "middle": "none", "heads": 4, "num_classes": 2},
]


@pytest.mark.parametrize("options", OURS)
def test_ours_in_diffusers_and_back(options, tmp_path):
    model = UNet(channels=(32, 64), layers=1, **{"norm_groups": 16, **options})
    crossed = "cross_attention" in options["down"]
    condition = {"context": context()} if crossed else {}
    if model.num_classes:
        condition["classes"] = torch.tensor([0, model.num_classes])  # the last: no class
    if model.class_embedding == "time":
        condition["classes"] = torch.tensor([3.0, 40.0])
    mine = {name: jnp.asarray(value.numpy()) for name, value in condition.items()}
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.ones((2, 8, 8, 3)), jnp.ones(2), **mine), jax.random.key(0))
    generator = torch.Generator().manual_seed(0)

    def fill(path, leaf):
        values = draw(leaf.shape[::-1], generator).numpy().transpose()
        return jnp.asarray(values + (path[-1].key == "scale"))

    params = jax.tree_util.tree_map_with_path(fill, shapes)["params"]
    save_unet(tmp_path, model, params, sample_size=8)
    cls = diffusers.UNet2DConditionModel if crossed else diffusers.UNet2DModel
    names = {"context": "encoder_hidden_states", "classes": "class_labels"}
    saved = cls.from_pretrained(tmp_path).eval()
    assert saved.config.sample_size == 8
    x, time = inputs(saved, 8)
    wanted = theirs(saved, x, time, **{names[name]: value for name, value in condition.items()})
    loaded = load_unet(tmp_path)
    got = ours(loaded._replace(model=model, params=params), x, time, **condition)
    assert 0.5 < np.abs(wanted).max() < 20
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE)
    np.testing.assert_array_equal(ours(loaded, x, time, **condition), got)
