"""For the checks of labelling: an archive of twelve small frames, and `dc-encoder`, whose path is argument 1."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

ENCODER = str(Path(sys.argv[1]).resolve())
MODEL = str(Path(__file__).resolve().parents[2] / "dc-encoder/models/demo")


def encoder(home, *args, fails=False, **environment):
    """Runs `dc-encoder` in a folder; what it says."""
    result = subprocess.run(
        [ENCODER, *args], cwd=home, text=True, capture_output=True, env={**os.environ, **environment}, check=False
    )
    print("$ dc-encoder", *args)
    print("".join(f"  {line}\n" for line in (result.stdout + result.stderr).splitlines()), end="")
    assert (result.returncode != 0) == fails, result.returncode
    return result.stdout + result.stderr


def png(path, number):
    """A picture of 64x48 pixels: twelve squares, black or white by the number's bits."""
    squares = [230 if number >> bit & 1 else 20 for bit in range(12)]
    rows = [b"\0" + b"".join(bytes([it]) * 16 for it in squares[4 * y : 4 * y + 4]) for y in range(3)]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(row * 16 for row in rows))),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def fill(home, batches):
    """Twelve frames of camera plaza-1, and batches of four: pairs of a task and a name."""
    (home / "pictures").mkdir()
    rows = ["file,captured_at"]
    for i in range(12):
        png(home / f"pictures/{i:02}.png", 0x9E3 * (i + 1) & 0xFFF)
        rows.append(f"pictures/{i:02}.png,2026-06-01T12:{i:02}:00Z")
    (home / "frames.csv").write_text("\n".join(rows) + "\n")
    encoder(home, "archive", "add", "--frames", "frames.csv", "--camera", "plaza-1", "--model", MODEL, "--device", "cpu")
    for task, name in batches:
        encoder(home, "label", "suggest", "--camera", "plaza-1", "--task", task, "--n", "4", "--batch", name)


def found(home):
    """All frames, as `archive find` has them."""
    out = subprocess.run([ENCODER, "archive", "find", "--json"], cwd=home, text=True, capture_output=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]
