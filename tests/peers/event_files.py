"""Reads a pretraining run's event files as TensorBoard does (`make check-tensorboard`).

The argument is the run's folder, `MODEL/pretrain`. Two readers must agree with `log.csv` beside the event files:
TensorBoard's EventAccumulator (Python), and the server that people look at (its own reader, over HTTP on loopback).
"""

import csv
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from PIL import Image
from tensorboard import version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Tag in the event files: column of log.csv.
COLUMNS = {
    "loss/train": "loss",
    "loss/latent": "latent_loss",
    "learning_rate": "lr",
    "gradient_norm": "grad_norm",
    "images_per_s": "images_per_s",
    "loss/held_out": "val_loss",
    "loss/held_out_of_means": "val_loss_of_means",
    "effective_rank": "effective_rank",
}
PATIENCE_S = 60  # for the server to start and to read the files


def table(folder):
    """{tag: [(step, value)]} as log.csv has it."""
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    points = {tag: [(int(r["step"]), float(r[column])) for r in rows if r[column]] for tag, column in COLUMNS.items()}
    return {tag: of for tag, of in points.items() if of}


def same_scalars(reader, got, want):
    assert sorted(got) == sorted(want), f"{reader}: tags {sorted(got)}, log.csv has {sorted(want)}"
    for tag, points in want.items():
        steps = [step for step, _ in points]
        assert [step for step, _ in got[tag]] == steps, f"{reader}: {tag}: steps {got[tag]}"
        for (step, value), (_, wanted) in zip(got[tag], points):
            room = 1e-6 * abs(wanted) + (0.006 if tag == "images_per_s" else 0)  # log.csv has two digits of it
            assert abs(value - wanted) <= room, f"{reader}: {tag} at {step}: {value}, not {wanted}"


def size_of(picture_name, data):
    """Width and height of a JPEG that shows something."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert picture.format == "JPEG", f"{picture_name}: {picture.format}"
    darkest, lightest = picture.convert("L").getextrema()
    assert lightest - darkest > 50, f"{picture_name}: one flat colour"
    return picture.size


def by_accumulator(folder):
    """Scalars and pictures, {tag: [(step, value)]} and {tag: [(step, size)]}, read in this process."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    images = {tag: [] for tag in tags["images"]}
    for tag in images:
        for event in events.Images(tag):
            size = size_of(f"{tag} at {event.step}", event.encoded_image_string)
            assert size == (event.width, event.height), f"{tag}: {size}, its event says {event.width}x{event.height}"
            images[tag].append((event.step, size))
    return scalars, images


class Server:
    """`tensorboard --logdir`, on a port of its own on loopback, ended by its process id."""

    def __init__(self, folder):
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", "0"]
        # Every picture, not a sample of ten.
        command += ["--samples_per_plugin", "images=1000,scalars=10000"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                self.url = found[0]
                return self
        sys.exit("tensorboard ended before it said where it listens")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def get(self, path, **query):
        with urlopen(f"{self.url}data/plugin/{path}?{urlencode(query)}", timeout=PATIENCE_S) as answer:
            return answer.read()

    def tags(self, plugin, want):
        """The tags of the only run, once the server has read all."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            runs = json.loads(self.get(f"{plugin}/tags"))
            if len(runs.get(".", {})) >= want:
                return list(runs["."])
            time.sleep(0.2)
        sys.exit(f"tensorboard has {runs} of {want} tags of {plugin} after {PATIENCE_S} s")


def by_server(folder, want_scalars, want_images):
    """The same, as a browser would fetch it."""
    with Server(folder) as server:
        scalars = {}
        for tag in server.tags("scalars", want_scalars):
            points = json.loads(server.get("scalars/scalars", run=".", tag=tag))
            scalars[tag] = [(step, value) for _, step, value in points]
        images = {}
        for tag in server.tags("images", want_images):
            images[tag] = []
            for entry in json.loads(server.get("images/images", run=".", tag=tag, sample=0)):
                data = server.get("images/individualImage", **dict([entry["query"].split("=", 1)]))
                images[tag].append((entry["step"], size_of(f"{tag} from the server", data)))
        return scalars, images


def main():
    folder = Path(sys.argv[1])
    want = table(folder)
    scalars, images = by_accumulator(folder)
    same_scalars("EventAccumulator", scalars, want)
    validated = [step for step, _ in want["loss/held_out"]]
    assert images, "no pictures"
    for tag, points in images.items():
        assert [step for step, _ in points] == validated, f"{tag}: pictures at {points}, validated at {validated}"
    scalars, served = by_server(folder, len(want), len(images))
    same_scalars("server", scalars, want)
    assert served == images, f"the server has {served}, the files {images}"
    points, pictures = sum(map(len, want.values())), sum(map(len, images.values()))
    sizes = sorted({size for of in images.values() for _, size in of})
    print(
        f"TensorBoard {version.VERSION} reads {points} numbers under {len(want)} tags and {pictures} JPEG pictures "
        f"({', '.join(f'{w}x{h}' for w, h in sizes)}) under {len(images)}, from the files and over HTTP alike"
    )
    for tag in images:
        print(f"  {tag}")


if __name__ == "__main__":
    main()
