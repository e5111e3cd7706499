"""Autoencoders against diffusers and against taming-transformers' architecture, at reduced width, both directions."""

import inspect

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from diffusers.models.autoencoders.vae import VectorQuantizer  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from jaxgen.core.types import Variables  # noqa: E402
from jaxgen.interop import (  # noqa: E402
    from_used,
    load_autoencoder,
    load_taming_vqgan,
    published_vq,
    save_autoencoder,
    to_used,
)
from jaxgen.interop.diffusers.autoencoder import expected_params  # noqa: E402
from jaxgen.interop.diffusers.autoencoder_config import (  # noqa: E402
    DEFAULTS,
    complete,
    decoder_arguments,
    encoder_arguments,
)
from jaxgen.interop.diffusers.autoencoder_names import diffusers_layout  # noqa: E402
from jaxgen.losses import gaussian_kl  # noqa: E402
from jaxgen.models import VQVAE, KLAutoencoder  # noqa: E402
from jaxgen.nn import Decoder, Encoder  # noqa: E402
from jaxgen.quantize import vq  # noqa: E402
from tests.parity.unets import draw, randomise  # noqa: E402
from tests.parity.vqgan import VQGAN  # noqa: E402

TOLERANCE = 2e-4  # of outputs whose largest entries are between 0.5 and 20
SMALL = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}


def types(*attention):
    """The types of the blocks, from high to low resolution."""
    return {"down_block_types": tuple(f"{'Attn' * a}DownEncoderBlock2D" for a in attention),
            "up_block_types": tuple(f"{'Attn' * a}UpDecoderBlock2D" for a in reversed(attention))}


def vq_model(**config):
    return randomise(diffusers.VQModel(**{**SMALL, **types(0, 0), "num_vq_embeddings": 24, **config}))


def kl_model(**config):
    return randomise(diffusers.AutoencoderKL(**{**SMALL, **types(0, 0), **config}))


def image(channels=3, size=16):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def nhwc(tensor):
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def nchw(array):
    return torch.from_numpy(np.asarray(array).transpose(0, 3, 1, 2).copy())


def close(got, wanted, name):
    assert 0.2 < np.abs(wanted).max() < 30, (name, np.abs(wanted).max())
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE, err_msg=name)


def same_codes(indices, wanted, z, codebook):
    """Equal, except where two codes are equally near."""
    distances = np.square(z[..., None, :] - codebook).sum(-1)
    chosen, best = (np.take_along_axis(distances, i[..., None], -1)[..., 0] for i in (indices, wanted))
    np.testing.assert_array_equal(np.where(np.abs(chosen - best) < 1e-4, wanted, indices), wanted)
    assert len(np.unique(indices)) > 3 and (indices != wanted).mean() < 0.02


def compare_vq(theirs, model, variables, **size):
    x = image(theirs.config.in_channels, **size)
    with torch.no_grad():
        latents = theirs.encode(x).latents
        wanted = theirs.decode(latents)
        _, _, (_, _, codes) = theirs.quantize(latents)
    z = jax.jit(model.encode)(variables, jnp.asarray(nhwc(x)))
    close(z, nhwc(latents), "encode")
    output, _ = model.quantize(variables, jnp.asarray(nhwc(latents)))
    codebook = np.asarray(model.quantizer.lookup(Variables(variables.params["quantizer"], variables.state),
                                                 jnp.arange(model.num_codes)))
    same_codes(np.asarray(output.indices), codes.numpy().reshape(z.shape[:-1]), nhwc(latents), codebook)
    close(jax.jit(model.decode)(variables, output.quantized), nhwc(wanted.sample), "decode")
    loss = sum(float(jnp.mean(term)) for term in output.losses.values())
    assert loss == pytest.approx(float(wanted.commit_loss), rel=1e-4)


def compare_kl(theirs, model, variables, **size):
    x = image(theirs.config.in_channels, **size)
    with torch.no_grad():
        gaussian = theirs.encode(x).latent_dist
        z = gaussian.mean + 0.1
        wanted = theirs.decode(z).sample
    mine = jax.jit(model.encode)(variables, jnp.asarray(nhwc(x)))
    close(mine.mean, nhwc(gaussian.mean), "mean")
    close(mine.logvar, nhwc(gaussian.logvar), "logvar")
    np.testing.assert_allclose(gaussian_kl(mine), gaussian.kl().numpy(), rtol=1e-4)
    scaled = (z - (theirs.config.shift_factor or 0)) * theirs.config.scaling_factor
    close(jax.jit(model.decode)(variables, jnp.asarray(nhwc(scaled))), nhwc(wanted), "decode")
    np.testing.assert_allclose(model.mode(mine) + 0.1 * model.scale, nhwc(scaled), atol=TOLERANCE)


@pytest.mark.parametrize(("config", "size"), [
    ({"latent_channels": 4, "vq_embed_dim": 5}, 16),
    ({**types(0, 1, 1), "block_out_channels": (32, 96, 64), "layers_per_block": 2, "sample_size": 8}, 16),
    ({"mid_block_add_attention": False, "in_channels": 1, "out_channels": 1}, 8),
])
def test_vq_models(config, size, tmp_path):
    theirs = vq_model(**config)
    theirs.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    compare_vq(theirs, loaded.model, loaded.variables, size=size)


@pytest.mark.parametrize("config", [
    {**types(0, 0, 0), "block_out_channels": (32, 64, 64), "layers_per_block": 2},
    {**types(1, 0), "shift_factor": 0.1, "scaling_factor": 0.3, "use_quant_conv": False, "use_post_quant_conv": False},
    {"mid_block_add_attention": False, "latent_channels": 2},
])
def test_kl_autoencoders(config, tmp_path):
    theirs = kl_model(**config)
    theirs.save_pretrained(tmp_path)
    loaded = load_autoencoder(tmp_path)
    compare_kl(theirs, loaded.model, loaded.variables)


def test_extreme_variances_are_clipped_as_theirs_are(tmp_path):
    theirs = kl_model()
    with torch.no_grad():
        theirs.quant_conv.bias[4:] += torch.tensor([60.0, -60.0, 0.0, 19.5])
    theirs.save_pretrained(tmp_path)
    model, variables, _ = load_autoencoder(tmp_path)
    x = image()
    with torch.no_grad():
        wanted = nhwc(theirs.encode(x).latent_dist.logvar)
    assert wanted.max() == 20 and wanted.min() == -30
    np.testing.assert_allclose(jax.jit(model.encode)(variables, jnp.asarray(nhwc(x))).logvar, wanted, atol=1e-3)


def test_the_loss_of_a_loaded_model_has_the_gradients_of_theirs(tmp_path):
    theirs = vq_model(block_out_channels=(32,), **types(0))
    theirs.save_pretrained(tmp_path)
    model, variables, _ = load_autoencoder(tmp_path)
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    _, loss, _ = theirs.quantize(z)
    to_latents, to_codes = torch.autograd.grad(loss, [z, theirs.quantize.embedding.weight])

    def mine(params, z):
        output, _ = model.quantizer.apply(Variables(params, {}), z)
        return sum(jnp.mean(term) for term in output.losses.values())

    params, latents = jax.grad(mine, (0, 1))(variables.params["quantizer"], jnp.asarray(nhwc(z)))
    np.testing.assert_allclose(latents, nhwc(to_latents), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(params["codebook"], to_codes.numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("legacy", [True, False])
def test_losses_and_renumbered_codes_are_theirs(legacy, tmp_path):
    """diffusers' quantizer is taming's, with its `legacy` and its `remap`."""
    used = np.array([7, 0, 19, 3, 11, 22])
    np.save(tmp_path / "used.npy", used)
    theirs = VectorQuantizer(24, 4, beta=0.3, remap=str(tmp_path / "used.npy"), unknown_index="extra", legacy=legacy)
    generator = torch.Generator().manual_seed(3)
    torch.nn.init.normal_(theirs.embedding.weight, generator=generator)
    z = torch.randn(2, 4, 6, 6, generator=generator, requires_grad=True)
    _, loss, (_, _, places) = theirs(z)
    to_latents, to_codes = torch.autograd.grad(loss, [z, theirs.embedding.weight])
    quantizer = published_vq(24, beta=0.3, legacy=legacy)

    def mine(params, z):
        output, _ = quantizer.apply(Variables(params, {}), z)
        return sum(jnp.mean(term) for term in output.losses.values()), output.indices

    codebook = jnp.asarray(theirs.embedding.weight.detach().numpy())
    (value, indices), (params, latents) = jax.value_and_grad(mine, (0, 1), has_aux=True)(
        {"codebook": codebook}, jnp.asarray(nhwc(z)))
    assert float(value) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(latents, nhwc(to_latents), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(params["codebook"], to_codes.numpy(), rtol=1e-4, atol=1e-7)
    places = places.reshape(indices.shape)
    assert len(np.unique(places)) > 4 and places.max() == len(used)
    np.testing.assert_array_equal(to_used(indices, used), places)
    np.testing.assert_array_equal(from_used(jnp.asarray(places.numpy()), used), theirs.unmap_to_all(places.clone()))


def drawn(model, channels):
    generator = torch.Generator().manual_seed(0)

    def fill(path, leaf):
        values = draw(leaf.shape[::-1], generator).numpy().transpose()
        return jnp.asarray(values + (path[-1].key == "scale"), leaf.dtype)

    size = 2 ** (len(model.encoder.multipliers) - 1)
    shapes = jax.eval_shape(lambda key: model.init(key, (size, size, channels)), jax.random.key(0))
    return Variables(*(jax.tree_util.tree_map_with_path(fill, part) for part in shapes))


def networks(latents, z_channels, channels=3, **options):
    kwargs = {"channels": 16, "multipliers": (1, 2), "norm_groups": 8, **options}
    return (Encoder(latent_channels=latents, num_res_blocks=1, z_channels=z_channels and z_channels[0], **kwargs),
            Decoder(image_channels=channels, num_res_blocks=2, z_channels=z_channels and z_channels[1], **kwargs))


@pytest.mark.parametrize(("z_channels", "options", "quantizer"), [
    ((5, 5), {"attention_levels": (1,)}, vq(24, commitment=0.25)),
    (None, {"multipliers": (2, 1, 3), "middle_attention": False}, vq(24, ema_decay=0.9)),
])
def test_our_vqvaes_in_diffusers(z_channels, options, quantizer, tmp_path):
    encoder, decoder = networks(3, z_channels, **options)
    model = VQVAE(encoder=encoder, decoder=decoder, quantizer=quantizer)
    variables = drawn(model, 3)
    save_autoencoder(tmp_path, model, variables, sample_size=16)
    theirs = diffusers.VQModel.from_pretrained(tmp_path).eval()
    assert theirs.config.sample_size == 16
    if quantizer.init(jax.random.key(0), 3).state:
        # What moving averages leave of the loss is the commitment's term, a share 1 / (1 + beta) of 4 / 5 here.
        model = VQVAE(encoder=encoder, decoder=decoder, quantizer=vq(24))
        variables = Variables({**variables.params, "quantizer": {"codebook": variables.state["codebook"]}}, {})
    compare_vq(theirs, model, variables)


@pytest.mark.parametrize(("z_channels", "options"), [
    ((6, 3), {"attention_levels": (0,)}), (None, {"multipliers": (1, 1, 2), "middle_attention": False}),
])
def test_our_kl_autoencoders_in_diffusers(z_channels, options, tmp_path):
    encoder, decoder = networks(6, z_channels, **options)
    model = KLAutoencoder(encoder=encoder, decoder=decoder, scale=0.4, shift=-0.2)
    variables = drawn(model, 3)
    save_autoencoder(tmp_path, model, variables)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path).eval()
    assert (theirs.config.scaling_factor, theirs.config.shift_factor) == (0.4, -0.2)
    compare_kl(theirs, model, variables)


def test_entries_that_a_file_leaves_out_are_the_defaults_of_diffusers():
    for name, defaults in DEFAULTS.items():
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert {k: p.default for k, p in signature.items() if k != "self"} == defaults


PUBLISHED = {
    "stable-diffusion-v1-5": {"_class_name": "AutoencoderKL", "block_out_channels": (128, 256, 512, 512),
                              **types(0, 0, 0, 0), "layers_per_block": 2, "latent_channels": 4},
    "flux": {"_class_name": "AutoencoderKL", "block_out_channels": (128, 256, 512, 512), **types(0, 0, 0, 0),
             "layers_per_block": 2, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False,
             "scaling_factor": 0.3611, "shift_factor": 0.1159},
    "ldm-celebahq-256": {"_class_name": "VQModel", "block_out_channels": (128, 256, 512), **types(0, 0, 0),
                         "layers_per_block": 2, "latent_channels": 3, "num_vq_embeddings": 8192},
    "vq-f8": {"_class_name": "VQModel", "block_out_channels": (128, 256, 256, 512), **types(0, 0, 0, 1),
              "layers_per_block": 2, "latent_channels": 4, "num_vq_embeddings": 16384},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_their_tensors_at_full_width(name):
    config = dict(PUBLISHED[name])
    arguments = complete(config)
    with torch.device("meta"):
        theirs = getattr(diffusers, config.pop("_class_name"))(**config)
    sides = {"encoder": Encoder(**encoder_arguments(arguments)), "decoder": Decoder(**decoder_arguments(arguments))}
    codes = config.get("num_vq_embeddings")
    model = VQVAE(**sides, quantizer=vq(codes)) if codes else KLAutoencoder(**sides)
    layout = diffusers_layout(len(model.encoder.multipliers))
    leaves = jax.tree_util.tree_leaves_with_path(expected_params(model, 3))
    mine = {layout.name(tuple(key.key for key in path)): leaf.size for path, leaf in leaves}
    assert mine == {name: tensor.numel() for name, tensor in theirs.state_dict().items()}


@pytest.mark.parametrize("options", [
    {}, {"ch_mult": (1, 1, 2), "attention": (2,), "blocks": 2, "channels": 1}, {"attention": (), "z_channels": 4},
])
def test_vqgans_of_taming_transformers(options, tmp_path):
    theirs = randomise(VQGAN(**options))
    tensors = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file({**tensors, "loss.discriminator.main.0.bias": torch.zeros(3)}, tmp_path / "vqgan.safetensors")
    model, variables, used = load_taming_vqgan(tmp_path / "vqgan.safetensors")
    x = image(options.get("channels", 3))
    with torch.no_grad():
        z = theirs.encode(x)
        codes = theirs.codes(z)
        wanted = theirs.decode_code(codes)
    close(jax.jit(model.encode)(variables, jnp.asarray(nhwc(x))), nhwc(z), "encode")
    indices = np.asarray(model.quantize(variables, jnp.asarray(nhwc(z)))[0].indices)
    same_codes(indices, codes.numpy(), nhwc(z), tensors["quantize.embedding.weight"].numpy())
    decoded = jax.jit(model.from_tokens)(variables, jnp.asarray(codes.numpy()))
    close(decoded, nhwc(wanted), "decode")
    assert used is None
