"""The first stage of taming-transformers in PyTorch, from its published description and under its state dict's names.

Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis" (2021), appendix: residual blocks and
single-head attention in 32 groups (epsilon 1e-6), halving by a strided convolution padded at the bottom and right.
"""

from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.proj_out(mixed.reshape(x.shape))


class Level(nn.Module):
    """Blocks, each followed by attention where there is any, and a change of resolution where there is one."""

    def __init__(self, inputs, outputs, blocks, attention, resample):
        super().__init__()
        self.block = nn.ModuleList(Block(outputs if i else inputs, outputs) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(outputs) for _ in range(blocks if attention else 0))
        if resample:
            layer = nn.Module()
            layer.conv = nn.Conv2d(outputs, outputs, 3, stride=2 if resample == "downsample" else 1,
                                   padding=0 if resample == "downsample" else 1)
            self.add_module(resample, layer)

    def forward(self, x):
        for i, block in enumerate(self.block):
            x = block(x)
            x = self.attn[i](x) if self.attn else x
        if hasattr(self, "downsample"):
            x = self.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        if hasattr(self, "upsample"):
            x = self.upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.block_2 = (Block(channels, channels) for _ in range(2))
        self.attn_1 = Attention(channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, ch, ch_mult, blocks, attention, in_channels, z_channels):
        super().__init__()
        widths = [ch * m for m in ch_mult]
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level(inputs, width, blocks, i in attention, "downsample" if i < len(widths) - 1 else None)
            for i, (inputs, width) in enumerate(zip([ch, *widths], widths))
        )
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, ch, ch_mult, blocks, attention, out_channels, z_channels):
        super().__init__()
        widths = [ch * m for m in ch_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        # Counted from high to low resolution, and run the other way round.
        self.up = nn.ModuleList(
            Level(inputs, width, blocks + 1, i in attention, "upsample" if i else None)
            for i, (inputs, width) in enumerate(zip([*widths[1:], widths[-1]], widths))
        )
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, z):
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VQGAN(nn.Module):
    def __init__(self, *, ch=32, ch_mult=(1, 2), blocks=1, attention=(1,), channels=3, z_channels=8, embed_dim=4,
                 n_embed=24):
        super().__init__()
        self.encoder = Encoder(ch, ch_mult, blocks, attention, channels, z_channels)
        self.decoder = Decoder(ch, ch_mult, blocks, attention, channels, z_channels)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(n_embed, embed_dim)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))

    def codes(self, z):
        """[B, h, w] the codes nearest to z [B, D, h, w], by all distances."""
        difference = z.permute(0, 2, 3, 1)[..., None, :] - self.quantize.embedding.weight
        return difference.square().sum(-1).argmin(-1)

    def decode_code(self, codes):
        return self.decoder(self.post_quant_conv(self.quantize.embedding(codes).permute(0, 3, 1, 2)))
