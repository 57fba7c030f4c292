"""The peer of `make bench-train`: the same masked autoencoder in PyTorch, as one would write it there.

Reads one JSON object from the first argument (the shape, see dc-encoder/benches/train.rs), trains for `seconds`, prints
one JSON line: images a second, the median and the best step, and the processor's seconds an image. Images are float tensors in memory before the clock
starts; the decoder predicts every patch and the encoder's patch embedding sees every patch, as the reference code of
the paper does.
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim, heads, width):
        super().__init__()
        self.heads, self.width = heads, width
        self.qkv = nn.Linear(dim, 3 * heads * width, bias=False)
        self.out = nn.Linear(heads * width, dim)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class Block(nn.Module):
    def __init__(self, dim, heads, width, mlp):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, width)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.GELU(), nn.Linear(mlp, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def stack(shape):
    return nn.Sequential(
        *[Block(shape["dim"], shape["heads"], shape["dim_head"], shape["mlp"]) for _ in range(shape["depth"])],
        nn.LayerNorm(shape["dim"]),
    )


class Autoencoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        encoder, decoder, patch = shape["encoder"], shape["decoder"], shape["patch"]
        self.patch = patch
        self.tokens = shape["height"] // patch * (shape["width"] // patch)
        self.embed = nn.Linear(3 * patch * patch, encoder["dim"])
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, encoder["dim"]))
        self.encoder = stack(encoder)
        self.bridge = nn.Linear(encoder["dim"], decoder["dim"])
        self.mask_token = nn.Parameter(torch.zeros(decoder["dim"]))
        self.decoder_position = nn.Parameter(0.02 * torch.randn(self.tokens, decoder["dim"]))
        self.decoder = stack(decoder)
        self.predict = nn.Linear(decoder["dim"], 3 * patch * patch)

    def patches(self, images):
        batch, channels, height, width = images.shape
        rows, cols, side = height // self.patch, width // self.patch, self.patch
        parts = images.view(batch, channels, rows, side, cols, side)
        return parts.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * cols, -1)

    def forward(self, images, keep):
        batch = images.shape[0]
        patches = self.patches(images)
        tokens = self.embed(patches) + self.position
        seen = torch.gather(tokens, 1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
        seen = self.bridge(self.encoder(seen))
        places = keep[..., None].expand(-1, -1, seen.shape[-1])
        whole = self.mask_token.expand(batch, self.tokens, -1).scatter(1, places, seen)
        prediction = self.predict(self.decoder(whole + self.decoder_position))
        target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = torch.ones(batch, self.tokens).scatter(1, keep, 0.0)
        return (((prediction - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()


def main():
    shape = json.loads(sys.argv[1])
    torch.set_num_threads(shape["threads"])
    torch.manual_seed(0)
    model = Autoencoder(shape)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    batch = shape["batch"]
    images = torch.rand(batch, 3, shape["height"], shape["width"])
    visible = int(model.tokens * (1 - shape["mask_ratio"]))

    def step():
        keep = torch.rand(batch, model.tokens).argsort(1)[:, :visible].sort(1).values
        loss = model(images, keep)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    for _ in range(2):
        step()
    times = []
    processor = time.process_time()
    end = time.perf_counter() + shape["seconds"]
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    processor = time.process_time() - processor
    print(json.dumps({
        "version": torch.__version__,
        "steps": len(times),
        "median": batch / statistics.median(times),
        "best": batch / min(times),
        "processor_s": processor / (batch * len(times)),
    }))


main()
