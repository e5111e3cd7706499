"""Files that PyTorch and diffusers write are read with their values: float8, and variants, also of several files."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffusers  # noqa: E402
import safetensors.torch  # noqa: E402

from jaxgen.interop import load_unet, read_safetensors, write_safetensors  # noqa: E402

pytestmark = pytest.mark.parity
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


@pytest.mark.parametrize("name", FLOAT8)
def test_float8_has_pytorch_s_values_both_ways(name, tmp_path):
    x = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    safetensors.torch.save_file({"x": x}, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read_safetensors(tmp_path / "w.safetensors")["x"], x.float().numpy())
    write_safetensors(tmp_path / "o.safetensors", read_safetensors(tmp_path / "w.safetensors", dtype=None))
    found = safetensors.torch.load_file(tmp_path / "o.safetensors")["x"]
    assert found.dtype == x.dtype and torch.equal(found.view(torch.uint8), x.view(torch.uint8))


@pytest.mark.parametrize("size", ["10GB", "20KB"])
def test_variants_are_found_where_diffusers_writes_them(size, tmp_path):
    unet = diffusers.UNet2DModel(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                                 down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                                 up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    unet.save_pretrained(tmp_path, variant="fp16", max_shard_size=size)
    assert len(list(tmp_path.glob("*.json"))) == (1 if size == "10GB" else 2)
    found = load_unet(tmp_path, variant="fp16").params["conv_in"]["kernel"]
    np.testing.assert_array_equal(found, unet.conv_in.weight.detach().numpy().transpose(2, 3, 1, 0))
    for index in tmp_path.glob("*.index.*.json"):
        files = set(json.loads(index.read_text())["weight_map"].values())
        assert len(files) > 1 and all(".fp16-" in file for file in files)
