"""Attention, transformers and DiT compared with torch.nn and diffusers, with the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.attention import Attention, rotate
from jaxgen.nn.dit import DiT
from jaxgen.nn.embeddings import GaussianFourier, grid_positions, sinusoidal_embedding
from jaxgen.nn.transformer import Transformer

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.parity

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
TIMES = np.array([0.0, 0.37, 1.0, 500.5, 999.0], np.float32)


def randomise(module):
    """Torch weights that are nowhere the zeros and ones of an initialiser."""
    generator = torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def dense(weight, bias):
    return {"kernel": jnp.asarray(weight.detach().numpy().T), "bias": jnp.asarray(bias.detach().numpy())}


def linear(layer):
    return dense(layer.weight, layer.bias)


def norm(layer):
    return {"scale": jnp.asarray(layer.weight.detach().numpy()), "bias": jnp.asarray(layer.bias.detach().numpy())}


def attention(layer):
    """The parameters of a torch.nn.MultiheadAttention."""
    projections = zip(("query", "key", "value"), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3))
    return {name: dense(weight, bias) for name, weight, bias in projections} | {"out": linear(layer.out_proj)}


@pytest.mark.parametrize("dim", [32, 33])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sinusoidal_embeddings_agree(dim, flip, shift):
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    theirs = embeddings.get_timestep_embedding(torch.tensor(TIMES), dim, flip, shift, max_period=5000)
    ours = sinusoidal_embedding(TIMES, dim, max_period=5000, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    # The angles are up to 999 radians: float32 knows them to 6e-5.
    close(ours, theirs.numpy(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("flip", [False, True])
def test_fourier_features_agree(flip):
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    theirs = embeddings.GaussianFourierProjection(8, scale=2.0, log=True, flip_sin_to_cos=flip)
    ours = GaussianFourier(8, scale=2.0, flip_sin_to_cos=flip)
    sigma = np.array([0.01, 1.0, 50.0], np.float32)
    variables = {"params": {"weight": jnp.asarray(theirs.weight.detach().numpy())}}
    close(ours.apply(variables, sigma), theirs(torch.tensor(sigma)).detach().numpy(), rtol=0, atol=1e-4)


def test_grid_positions_agree():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    theirs = embeddings.get_2d_sincos_pos_embed(16, 5, base_size=5, output_type="pt")
    close(grid_positions(5, 5, 16), theirs.numpy())


def test_rotary_positions_agree():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    x = RNG.normal(size=(2, 6, 3, 8)).astype(np.float32)
    table = embeddings.get_1d_rotary_pos_embed(8, np.arange(6), use_real=True, repeat_interleave_real=False)
    theirs = embeddings.apply_rotary_emb(torch.tensor(x).transpose(1, 2), table, use_real_unbind_dim=-2)
    close(rotate(x, np.arange(6)), theirs.transpose(1, 2).numpy())


@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_its_gradient_agree(causal):
    x = RNG.normal(size=(2, 6, 16)).astype(np.float32)
    weights = RNG.normal(size=x.shape).astype(np.float32)
    mask = np.array([[True] * 6, [True, True, False, True, False, True]])
    module = Attention(2, causal=causal)
    variables = jax.jit(module.init)(KEY, x)
    ours = jax.jit(jax.value_and_grad(lambda x: jnp.sum(weights * module.apply(variables, x, mask=mask))))(x)

    p = jax.tree.map(lambda a: torch.tensor(np.asarray(a)), variables["params"])
    inputs = torch.tensor(x, requires_grad=True)
    query, key, value = (
        (inputs @ p[name]["kernel"] + p[name]["bias"]).unflatten(-1, (2, 8)).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    allowed = torch.tensor(mask)[:, None, None] & (torch.ones(6, 6).tril().bool() if causal else True)
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    theirs = mixed.transpose(1, 2).flatten(2) @ p["out"]["kernel"] + p["out"]["bias"]
    total = (theirs * torch.tensor(weights)).sum()
    total.backward()
    close(ours[0], total.item())
    close(ours[1], inputs.grad.numpy())


def test_a_causal_transformer_with_context_agrees_with_torch_decoder_layers():
    tokens, context = RNG.integers(0, 10, (2, 6)), RNG.normal(size=(2, 3, 16)).astype(np.float32)
    context_mask = np.array([[True, True, True], [True, False, True]])
    layers = [
        randomise(torch.nn.TransformerDecoderLayer(
            16, 2, 32, dropout=0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=True,
            activation=functools.partial(torch.nn.functional.gelu, approximate="tanh"),
        )) for _ in range(2)
    ]
    table, positions, start = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((10, 16), (8, 16), (16,)))
    final, head = randomise(torch.nn.LayerNorm(16, eps=1e-6)), randomise(torch.nn.Linear(16, 10))
    randomise(torch.nn.ParameterList([table, positions, start]))
    x = torch.cat([start.expand(2, 1, 16), table[torch.tensor(tokens)][:, :-1]], dim=1) + positions[:6]
    for layer in layers:
        x = layer(x, torch.tensor(context), tgt_mask=~torch.ones(6, 6).tril().bool(),
                  memory_key_padding_mask=~torch.tensor(context_mask))
    theirs = head(final(x)).detach().numpy()

    params = {
        "tokens0": {"embedding": table}, "positions": {"embedding": positions}, "start": start,
        "out": {"norm": norm(final), "dense": linear(head)},
    }
    params = jax.tree.map(lambda a: a.detach().numpy() if isinstance(a, torch.Tensor) else a, params)
    for i, layer in enumerate(layers):
        params[f"block{i}"] = {
            "norm1": norm(layer.norm1), "attention": attention(layer.self_attn),
            "norm_context": norm(layer.norm2), "cross_attention": attention(layer.multihead_attn),
            "norm2": norm(layer.norm3), "mlp1": linear(layer.linear1), "mlp2": linear(layer.linear2),
        }
    module = Transformer(10, features=16, depth=2, heads=2, mlp_ratio=2, max_length=8, causal=True, context=True)
    ours = jax.jit(module.apply)({"params": params}, tokens, context=context, context_mask=context_mask)
    close(ours, theirs, atol=1e-4)


def test_dit_agrees_with_diffusers():
    peer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, out_channels=6, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=5, norm_eps=1e-6,
    )
    randomise(peer)
    for block in peer.transformer_blocks:
        # The paper's frequencies end one step before 1 / 10000; the port's reach it.
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        # One embedding for all blocks, as in the paper; the port holds a copy in each.
        block.norm1.emb = peer.transformer_blocks[0].norm1.emb
    x = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    time, classes = np.array([3, 870]), np.array([2, 5])
    with torch.no_grad():
        theirs = peer(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(time), torch.tensor(classes)).sample

    embed, projection = peer.transformer_blocks[0].norm1.emb, peer.pos_embed.proj
    mlp = embed.timestep_embedder
    kernel = projection.weight.permute(2, 3, 1, 0).reshape(-1, 16)  # (row, column, channel) to features
    params = {
        "patches": dense(kernel.T, projection.bias),
        "condition": {
            "time": {"dense1": linear(mlp.linear_1), "dense2": linear(mlp.linear_2)},
            "class": {"table": {"embedding": embed.class_embedder.embedding_table.weight.detach().numpy()}},
        },
        "out": {"modulation": linear(peer.proj_out_1), "dense": linear(peer.proj_out_2)},
    }
    for i, block in enumerate(peer.transformer_blocks):
        first, second = block.ff.net[0].proj, block.ff.net[2]
        params[f"block{i}"] = {
            "modulation": linear(block.norm1.linear), "mlp1": linear(first), "mlp2": linear(second),
            "attention": {"query": linear(block.attn1.to_q), "key": linear(block.attn1.to_k),
                          "value": linear(block.attn1.to_v), "out": linear(block.attn1.to_out[0])},
        }
    module = DiT(out_channels=6, patch_size=2, features=16, depth=2, heads=2, num_classes=5)
    ours = jax.jit(module.apply)({"params": params}, x, time, classes=classes)
    close(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4 * np.abs(theirs.numpy()).max())
