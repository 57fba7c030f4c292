"""Writes pixels.json, the reference numbers for image, preprocess and uplink.

Made with Pillow 13.0.0 and numpy 2.4.6:

    python3 -m venv venv && venv/bin/pip install pillow numpy && venv/bin/python make.py

The pictures are made by arithmetic, here and in tests/it/picture.rs alike, so that no picture is stored.
"""

import io
import json
import pathlib

import numpy as np
from PIL import Image

BILINEAR = Image.Resampling.BILINEAR


def noise(width, height, seed):
    """A linear congruential generator's top bytes: the hardest picture for a filter."""
    state, out = seed, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return Image.frombytes("RGB", (width, height), bytes(out))


def scene(width, height):
    """Gradients with a disc and a box in them: what JPEG is made for."""
    out = bytearray()
    for y in range(height):
        for x in range(width):
            if (x - width // 3) ** 2 + (y - height // 2) ** 2 < (height // 4) ** 2:
                out += bytes((220, 40, 30))
            elif x > width * 2 // 3 and y > height // 2:
                out += bytes((20, 60, 200))
            else:
                out += bytes((x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)))
    return Image.frombytes("RGB", (width, height), bytes(out))


def picture(kind, width, height):
    return noise(width, height, 1) if kind == "noise" else scene(width, height)


def resize_case(name, kind, source, target):
    pixels = picture(kind, *source).resize(target, BILINEAR)
    return {"name": name, "picture": kind, "source": source, "target": target, "pixels": pixels.tobytes().hex()}


def jpeg_case(name, image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    decoded = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    return {"name": name, "size": image.size, "jpeg": buffer.getvalue().hex(), "pixels": decoded.tobytes().hex()}


def normalise_case():
    image = noise(3, 2, 5)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    chw = np.asarray(image).transpose(2, 0, 1).astype(np.float32)
    values = (chw / np.float32(255) - mean[:, None, None]) / std[:, None, None]
    return {"width": 3, "height": 2, "seed": 5, "values": [float(value) for value in values.reshape(-1)]}


golden = {
    "resize": [
        resize_case("half", "noise", (24, 16), (12, 8)),
        resize_case("down, odd", "noise", (37, 23), (11, 7)),
        resize_case("down a lot", "scene", (96, 54), (5, 3)),
        resize_case("down in one axis only", "noise", (31, 17), (31, 5)),
        resize_case("down in one axis, up in the other", "scene", (20, 9), (7, 21)),
        resize_case("up", "noise", (9, 7), (20, 15)),
        resize_case("up, odd", "scene", (13, 11), (29, 17)),
        resize_case("to one pixel", "noise", (8, 8), (1, 1)),
        resize_case("from one pixel", "noise", (1, 1), (4, 3)),
    ],
    "jpeg": [
        jpeg_case("4:2:0", scene(40, 24), quality=85, subsampling=2),
        jpeg_case("4:2:2", scene(33, 17), quality=85, subsampling=1),
        jpeg_case("4:4:4", scene(33, 17), quality=95, subsampling=0),
        jpeg_case("progressive", scene(40, 24), quality=85, subsampling=2, progressive=True),
        jpeg_case("restart markers", scene(40, 24), quality=85, subsampling=2, restart_marker_blocks=2),
        jpeg_case("grey", scene(20, 12).convert("L"), quality=90),
    ],
    "cmyk": jpeg_case("CMYK", scene(16, 8).convert("CMYK"), quality=85)["jpeg"],
    "normalise": normalise_case(),
}

path = pathlib.Path(__file__).with_name("pixels.json")
path.write_text(json.dumps(golden, indent=1) + "\n")
print(f"{path}: {path.stat().st_size} bytes")
