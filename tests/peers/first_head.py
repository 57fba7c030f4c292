"""`docs/camera-to-head.md` typed in word for word: argument 1 is the folder of the release programs.

The page's own stream plays on loopback (on another port than the page's, which may be taken); where a person labels, a script
gives the plaza's true counts to the page's server. Prints the goals of the way from a stream's address to a head.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from children import end, ended, free_port, start, started

BIN = Path(sys.argv[1]).resolve()
ROOT = Path(__file__).resolve().parents[2]
COMMANDS, MINUTES = 6, 10
WITHIN_SECONDS = 60
# Pictures are told apart at this size: people are a few pixels wide.
SIZE = (240, 144)


def blocks():
    """The page's shell blocks, each a list of commands; lines that go on in the next one are joined."""
    page = (ROOT / "docs/camera-to-head.md").read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S):
        yield re.sub(r"\\\n\s*", "", block).splitlines()


def greys(pattern, *options):
    """Pictures of a pattern of names, small and grey."""
    wide, high = SIZE
    scaled = f"scale={wide}:{high}:flags=area,format=gray"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *options, "-i", pattern, "-vf", scaled, "-f", "rawvideo", "-"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return [data[at : at + wide * high] for at in range(0, len(data), wide * high)]


class Truth:
    """Which frame of the footage a picture of the stream is, and how many people it shows."""

    def __init__(self, footage):
        self.counts = [json.loads(line)["count"] for line in (footage / "labels.jsonl").read_text().splitlines()]
        self.pictures = greys(str(footage / "frames/%06d.jpg"))
        assert len(self.pictures) == len(self.counts), f"{len(self.pictures)} of {len(self.counts)}"

    def of(self, path):
        (picture,) = greys(str(path))
        far = [sum(abs(a - b) for a, b in zip(picture, other)) for other in self.pictures]
        return self.counts[far.index(min(far))]


def label(home, command, shell, truth):
    """Answers what the page asks a person, until its server ends by itself."""
    server, address = started(["sh", "-c", f"exec {command}"], r"label in the browser: (\S+)", **shell)
    count = give_counts(home, *address.split("/?token="), truth)
    ended(server, WITHIN_SECONDS)
    print(f"  {count} counts were given")


def give_counts(home, url, token, truth):
    """Labels every frame of the page's batch with its true count; how many."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    batch = json.loads(opener.open(f"{url}/api/batch?token={token}").read())
    for frame in batch["frames"]:
        value = truth.of(home / "archive" / frame["path"])
        body = json.dumps({"id": frame["id"], "path": frame["path"], "value": value}).encode()
        headers = {"Content-Type": "application/json", "X-Token": token}
        opener.open(urllib.request.Request(f"{url}/api/label", body, headers)).read()
    return len(batch["frames"])


def listens(port):
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0


def play(home, lines, shell, port):
    """The page's stream; its two programs that do not end."""
    running = []
    for line in lines:
        print("$", line)
        if line.startswith("target/release/plaza "):
            subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL, **shell)
            continue
        folder, _, rest = line.rpartition(" && ")
        if folder:
            subprocess.run(["sh", "-c", folder], check=True, **shell)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(start(["sh", "-c", f"exec {rest}"], **quiet, **shell))
    end = time.monotonic() + WITHIN_SECONDS
    while not (home / "live/live.m3u8").exists() or not listens(port):
        assert time.monotonic() < end and all(it.poll() is None for it in running), "the page's stream did not start"
        time.sleep(0.05)
    return running


def way(home, lines, shell, truth):
    """The page's commands; how many, and how long they took."""
    count, begun = 0, time.monotonic()
    for line in lines:
        print("$", line, flush=True)
        if exported := re.match(r"export (.*)", line):
            shell["env"].update(pair.split("=", 1) for pair in exported[1].split())
            continue
        count += 1
        if line.startswith("dc-encoder label serve"):
            label(home, line, shell, truth)
        else:
            subprocess.run(["sh", "-c", line], check=True, **shell)
    return count, (time.monotonic() - begun) / 60


def main():
    commands, stream, *_ = blocks()
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "dc-encoder").symlink_to(ROOT / "dc-encoder")
        (home / "target").mkdir()
        (home / "target/release").symlink_to(BIN)
        shell = {"cwd": home, "env": {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}}
        moved = [[line.replace("8000", str(port)) for line in block] for block in (commands, stream)]
        running = play(home, moved[1], shell, port)
        try:
            count, minutes = way(home, moved[0], shell, Truth(home / "footage"))
        finally:
            for it in running:
                end(it)  # before their folder goes
        subprocess.run(["dc-encoder", "head", "inspect", "people-count.safetensors"], check=True, **shell)
    for what, unit, limit, value in (("commands", "", COMMANDS, count), ("time", "min", MINUTES, minutes)):
        print(
            f"goal=stream-to-head-{what} <={limit}{unit} measured={value:.3g}{unit} {'met' if value <= limit else 'missed'}"
        )


main()
