"""Mutated safetensors files, indices and configurations are read as they are, or refused by errors that name them."""

import json
from collections import Counter
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import safetensors

from jaxgen.interop import load_autoencoder, load_schedule, load_unet, read_safetensors, write_safetensors
from jaxgen.interop.diffusers import autoencoder as diffusers_autoencoder
from jaxgen.interop.diffusers import unet as diffusers
from jaxgen.interop.diffusers.autoencoder_config import saved_config
from jaxgen.interop.diffusers.unet_export import unet_config
from jaxgen.interop.diffusers.unet_weights import Inputs
from jaxgen.models import VQVAE, KLAutoencoder
from jaxgen.nn.unet import UNet
from jaxgen.quantize import vq
from tests.helpers.mutations import mutated_bytes, mutated_json, outcome
from tests.interop.autoencoders import networks
from tests.interop.cases import CROSSED, TINY

X = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
TENSORS = {
    "a": X[:2], "b": np.arange(4, dtype=np.int64), "none": np.zeros((0, 2)),
    "half": X[2].astype(ml_dtypes.bfloat16), "truth": np.array([True, False, True]),
    "quarter": X[:, :1].astype(ml_dtypes.float8_e4m3fn), "one": np.float64(3),
}

SCHEDULES = (
    {"_class_name": "DDPMScheduler", "num_train_timesteps": 10, "beta_start": 0.1, "beta_end": 0.2,
     "beta_schedule": "linear", "prediction_type": "epsilon", "rescale_betas_zero_snr": False},
    {"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2, 0.4], "prediction_type": "v_prediction"},
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
)


def mutated_safetensors(rng, content):
    """Anywhere, in the header's JSON, or in the header with its length put right."""
    end = 8 + int.from_bytes(content[:8], "little")
    kind = rng.integers(4)
    if kind == 0:
        return mutated_bytes(rng, content)
    mutate = mutated_bytes if kind == 1 else mutated_json
    header = mutate(rng, content[8:end])
    return len(header).to_bytes(8, "little") + header + content[end:]


def the_packages_reading(content):
    """{name: (shape, bytes)} by the package `safetensors`."""
    return {name: (list(info["shape"]), bytes(info["data"])) for name, info in safetensors.deserialize(content)}


def mutate_safetensors(directory, count, seed):
    """What is accepted is what the package reads from the same bytes."""
    rng, file, counts = np.random.default_rng(seed), directory / "w.safetensors", Counter()
    write_safetensors(file, TENSORS, metadata={"format": "pt"})
    original = file.read_bytes()
    for _ in range(count):
        content = mutated_safetensors(rng, original)
        file.write_bytes(content)
        found = outcome((str(file),), lambda: read_safetensors(file, dtype=None))
        counts["refused" if found is None else "read"] += 1
        if found is not None:
            ours = {name: (list(tensor.shape), tensor.tobytes()) for name, tensor in found.items()}
            assert ours == the_packages_reading(content)
    return counts


def mutate_index(directory, count, seed):
    """An index that is accepted gives tensors of the files that it names, each from the one file that has it."""
    rng, file, counts = np.random.default_rng(seed), directory / "i.safetensors.index.json", Counter()
    wanted = {(name, np.asarray(tensor).tobytes()) for name, tensor in TENSORS.items()}
    write_safetensors(directory / "i.safetensors", TENSORS, shard_bytes=40)
    write_safetensors(directory / "x.safetensors", {"a": TENSORS["a"] + 1})
    original = file.read_bytes()
    for _ in range(count):
        mutate = mutated_bytes if rng.integers(2) else mutated_json
        file.write_bytes(mutate(rng, original))
        found = outcome((str(file),), lambda: read_safetensors(file, dtype=None))
        counts["refused" if found is None else "read"] += 1
        assert found is None or {(name, tensor.tobytes()) for name, tensor in found.items()} <= wanted
    return counts


def configurations():
    """{name: (what config.json holds, the function that loads it)}."""
    (encoder, decoder), (to_moments, from_latents) = networks(latents=3, z=(2, 2)), networks(latents=4, z=(4, 2))
    vqvae = VQVAE(encoder=encoder, decoder=decoder, quantizer=vq(7))
    kl = KLAutoencoder(encoder=to_moments, decoder=from_latents)
    return {
        "unconditional": (unet_config(UNet(**TINY), Inputs(3)), load_unet),
        "conditional": (unet_config(UNet(**CROSSED), Inputs(3, 6)), load_unet),
        "VQModel": (saved_config(vqvae, 3, 32), load_autoencoder),
        "AutoencoderKL": (saved_config(kl, 3, 32), load_autoencoder),
    }


def mutate_config(directory, count, seed):
    """One that is accepted ends at the weights, which are not there; the shapes, slow to find, are left out."""
    with mock.patch.object(diffusers, "expected_params"), mock.patch.object(diffusers_autoencoder, "expected_params"):
        return mutate_config_and_find_shapes(directory, count, seed)


def mutate_config_and_find_shapes(directory, count, seed):
    rng, file, counts = np.random.default_rng(seed), directory / "config.json", Counter()
    originals = [(json.dumps(config).encode(), load) for config, load in configurations().values()]
    for _ in range(count):
        original, load = originals[rng.integers(len(originals))]
        file.write_bytes((mutated_bytes if rng.integers(2) else mutated_json)(rng, original))
        with pytest.raises((ValueError, OSError), match=str(directory)) as caught:
            load(directory)
        counts["read" if "no diffusion_pytorch_model" in str(caught.value) else "refused"] += 1
    return counts


def mutate_schedule(directory, count, seed):
    """A schedule that is accepted has a time for each level of noise: its entries were numbers, in their ranges."""
    rng, file, counts = np.random.default_rng(seed), directory / "scheduler_config.json", Counter()
    originals = [json.dumps(config).encode() for config in SCHEDULES]
    for _ in range(count):
        mutate = mutated_bytes if rng.integers(2) else mutated_json
        file.write_bytes(mutate(rng, originals[rng.integers(len(originals))]))
        found = outcome((str(file),), lambda: load_schedule(directory))
        counts["refused" if found is None else "read"] += 1
        assert found is None or np.isfinite(found.schedule.time(1.0))
    return counts


MUTATE = {"config": mutate_config, "schedule": mutate_schedule, "safetensors": mutate_safetensors,
          "index": mutate_index}


@pytest.mark.parametrize("kind, count", [("safetensors", 700), ("index", 300), ("config", 400), ("schedule", 60)])
def test_mutated_files_are_read_as_they_are_or_refused_by_name(tmp_path, kind, count):
    counts = MUTATE[kind](tmp_path, count, seed=0)
    assert counts["read"] and counts["refused"] > count / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", MUTATE)
def test_20000_mutated_files_are_read_as_they_are_or_refused_by_name(tmp_path, kind):
    counts = MUTATE[kind](tmp_path, 20_000, seed=1)
    print(kind, dict(counts))
    assert counts["read"] and counts["refused"] > 10_000


@pytest.mark.slow
def test_200_mutated_configurations_end_in_a_network_or_in_errors_that_name_the_file(tmp_path):
    counts = mutate_config_and_find_shapes(tmp_path, 200, seed=2)
    print("configurations and their networks", dict(counts))
    assert counts["read"] and counts["refused"]


def test_json_too_deep_to_parse_is_refused_by_name(tmp_path):
    for name in ("w.safetensors", "w.safetensors.index.json"):
        deep = b"[" * 200_000
        (tmp_path / name).write_bytes(deep if name.endswith("json") else len(deep).to_bytes(8, "little") + deep)
        with pytest.raises(ValueError, match=rf"{name} is .*no JSON: maximum recursion"):
            read_safetensors(tmp_path / name)


def test_the_mutations_reach_json_values():
    rng, content = np.random.default_rng(0), json.dumps({"a": [1, {"b": 2}]}).encode()
    assert len({mutated_json(rng, content) for _ in range(300)}) > 50
