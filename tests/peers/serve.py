"""The peer of `make bench-grpc`: the same encoder behind a gRPC server in Python, made as well as one can there.

grpc.aio, JPEGs decoded in threads (Pillow lets go of the interpreter), batches formed while the model is busy and never
waited for, one thread for ONNX Runtime. The service is one unary call, `/fth.Encoder/Embed`: JPEG in, the embedding as
f32 out. The first argument is one JSON object: the shape (see tests/benches/load/grpc.rs), `threads` and `max_batch`; it prints
`{"version": ..., "port": ...}` and serves until standard input ends.
"""

import asyncio
import io
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import torch
from PIL import Image

from model import Encoder, onnx_session

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
# (x / 255 - mean) / std as one multiply-add.
SCALE, SHIFT = 1 / (255 * STD), -MEAN / STD


def decode(jpeg, width, height):
    """JPEG to the model's input, [3, height, width]."""
    image = Image.open(io.BytesIO(jpeg))
    image.draft("RGB", None)
    if image.size != (width, height):
        image = image.convert("RGB").resize((width, height), Image.BILINEAR)
    pixels = np.asarray(image.convert("RGB"), np.float32)
    pixels *= SCALE
    pixels += SHIFT
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Batcher:
    """Takes what waits whenever the model is free, at most `most` frames."""

    def __init__(self, session, most):
        self.session, self.most = session, most
        self.name = session.get_inputs()[0].name
        self.waiting = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1)

    async def embed(self, image):
        answer = asyncio.get_running_loop().create_future()
        await self.waiting.put((image, answer))
        return await answer

    async def run(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < self.most and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            images = np.stack([image for image, _ in batch])
            try:
                (rows,) = await loop.run_in_executor(self.thread, self.session.run, None, {self.name: images})
            except Exception as error:  # The server goes on, these frames fail.
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            for row, (_, answer) in zip(rows, batch):
                if not answer.done():
                    answer.set_result(row)


async def serve(shape):
    import onnxruntime

    torch.manual_seed(0)
    batcher = Batcher(onnx_session(shape, Encoder(shape).eval()), shape["max_batch"])
    decoders = ThreadPoolExecutor(shape["threads"])
    width, height = shape["width"], shape["height"]

    async def embed(jpeg, _context):
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(decoders, decode, jpeg, width, height)
        return (await batcher.embed(image)).astype(np.float32).tobytes()

    handler = grpc.unary_unary_rpc_method_handler(embed)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 8 << 20), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fth.Encoder", {"Embed": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    batches = asyncio.create_task(batcher.run())
    version = f"gRPC {grpc.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(json.dumps({"version": version, "port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    batches.cancel()
    await server.stop(None)


logging.disable(logging.WARNING)
asyncio.run(serve(json.loads(sys.argv[1])))
