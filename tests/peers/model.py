"""The encoder as one would write it in PyTorch: the model of the peers in this folder."""

import os
import sys
import tempfile

import torch
import torch.nn.functional as F
from torch import nn


def segment_means(x, landmarks):
    """Means of runs of tokens, as even as they get: [batch, heads, tokens, width] to [.., landmarks, width]."""
    tokens = x.shape[2]
    if tokens % landmarks == 0:
        return x.reshape(*x.shape[:2], landmarks, tokens // landmarks, x.shape[-1]).mean(3)
    cuts = [i * tokens // landmarks for i in range(landmarks + 1)]
    return torch.stack([x[:, :, a:b].mean(2) for a, b in zip(cuts, cuts[1:])], 2)


def pinv(a, iterations):
    size = a.abs()
    z = a.mT / (size.sum(-1).amax(-1) * size.sum(-2).amax(-1))[..., None, None]
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.heads, self.width = shape["heads"], shape["dim_head"]
        self.landmarks, self.iterations = shape["landmarks"], shape["pinv_iterations"]
        inner = self.heads * self.width
        self.qkv = nn.Linear(shape["dim"], 3 * inner, bias=False)
        self.out = nn.Linear(inner, shape["dim"])

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        if self.landmarks:
            q = q * self.width**-0.5
            ql, kl = segment_means(q, self.landmarks), segment_means(k, self.landmarks)
            k1, k2, k3 = ((a @ b.mT).softmax(-1) for a, b in ((q, kl), (ql, kl), (ql, k)))
            mixed = k1 @ (pinv(k2, self.iterations) @ (k3 @ v))
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        dim, mlp = shape["dim"], shape["mlp"]
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(shape)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.GELU(), nn.Linear(mlp, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.patch = shape["patch"]
        self.grid = (shape["height"] // self.patch, shape["width"] // self.patch)
        self.embed = nn.Linear(3 * self.patch**2, shape["dim"])
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], shape["dim"]))
        self.blocks = nn.Sequential(*[Block(shape) for _ in range(shape["depth"])])
        self.norm = nn.LayerNorm(shape["dim"])
        self.head = nn.Linear(shape["dim"], shape["embed_dim"])

    def forward(self, images):
        rows, cols = self.grid
        parts = images.reshape(-1, 3, rows, self.patch, cols, self.patch).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(parts.reshape(-1, rows * cols, 3 * self.patch**2)) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def onnx_session(shape, model, int8=False, threads=None):
    """An ONNX Runtime session on the processor with this model; any batch up to 64."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "encoder.onnx")
        example = torch.rand(2, 3, shape["height"], shape["width"])
        # The exporter greets on standard output, which is for answers alone.
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            batch = torch.export.Dim("batch", min=1, max=64)
            torch.onnx.export(model, (example,), path, dynamic_shapes=({0: batch},), dynamo=True, verbose=False)
            if int8:
                from onnxruntime.quantization import QuantType, quantize_dynamic

                target = os.path.join(place, "int8.onnx")
                quantize_dynamic(path, target, weight_type=QuantType.QInt8, per_channel=True)
                path = target
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or shape["threads"]
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
