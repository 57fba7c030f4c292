"""The peers of `make bench-encoder`: the same encoder in PyTorch and ONNX Runtime, as one would write it there.

The first argument is one JSON object: the shape (see dc-encoder/benches/encoder.rs) and `kind`, one of
  torch-f32 torch-bf16            eager f32, torch.compile in bf16
  torch-cuda-bf16                 torch.compile in bf16 on the first NVIDIA card, from images that are there already
  ort-f32 ort-int8                ONNX Runtime, f32 and dynamically quantised
Then each line of standard input is a request, `{"batch": 1, "seconds": 3.0}`, and each answer one JSON line: the
median and the best milliseconds of a batch. Images are normalised float tensors before the clock starts.
"""

import json
import logging
import statistics
import sys
import time

import torch

from model import Encoder, onnx_session


def torch_peer(shape, model):
    half, cuda = shape["kind"].endswith("bf16"), "cuda" in shape["kind"]
    if cuda:
        model = model.to("cuda")
    if half:
        model = model.to(torch.bfloat16)
        if shape["compile"]:
            model = torch.compile(model)

    def run(images):
        with torch.inference_mode():
            result = model(images.to(torch.bfloat16) if half else images)
        if cuda:
            torch.cuda.synchronize()
        return result

    return run, f"PyTorch {torch.__version__}"


def ort_peer(shape, model):
    import onnxruntime

    session = onnx_session(shape, model, int8=shape["kind"] == "ort-int8")
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.numpy()}), f"ONNX Runtime {onnxruntime.__version__}"


def main():
    logging.disable(logging.WARNING)
    shape = json.loads(sys.argv[1])
    torch.set_num_threads(shape["threads"])
    torch.manual_seed(0)
    model = Encoder(shape).eval()
    run, version = (ort_peer if shape["kind"].startswith("ort") else torch_peer)(shape, model)
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        device = "cuda" if "cuda" in shape["kind"] else "cpu"
        images = torch.rand(request["batch"], 3, shape["height"], shape["width"], device=device)
        for _ in range(request["warm"]):
            run(images)
        times, end = [], time.perf_counter() + request["seconds"]
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            run(images)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"median": statistics.median(times), "best": min(times), "runs": len(times)}), flush=True)


main()
