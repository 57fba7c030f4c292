"""The archive over a bucket that speaks S3 (moto's server): argument 1 is the dc-encoder program.

Everything a person does with an archive, and what goes wrong with a bucket: it is missing, denied, or its endpoint is down
for a while; processes are killed. KILLS=20 of them.
"""

import json
import logging
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import boto3
from moto.server import ThreadedMotoServer

program = sys.argv[1]
agent = str(pathlib.Path(program).with_name("edge-agent"))
model = pathlib.Path(__file__).parents[2] / "dc-encoder/models/demo"
keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-sees"}
plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FTH_"))}
environment = plain | keys


class Proxy:
    """Passes connections on to the server, while it is up."""

    def __init__(self, to):
        self.to, self.up, self.open = to, True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            if not self.up:
                client.close()
                continue
            server = socket.create_connection(self.to)
            self.open += [client, server]
            for one, other in [(client, server), (server, client)]:
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    @staticmethod
    def copy(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def down(self):
        self.up = False
        for it in self.open:
            try:
                it.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []


class Camera:
    """A stream of pictures that differ, ten a second."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/video.mjpg"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.show, args=(client,), daemon=True).start()

    def show(self, client):
        try:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
            for picture in self.pictures:
                client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                client.sendall(picture + b"\r\n")
                time.sleep(0.1)  # as a camera does
        except OSError:
            pass


def call(*args, env=None, expect=0):
    done = subprocess.run([program, *map(str, args)], env=env or environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == (expect == 0), (args, said)
    assert keys["AWS_SECRET_ACCESS_KEY"] not in said, args
    return said


def fails(want, *args, env=None):
    said = call(*args, env=env, expect=1)
    assert want in said, (want, said)
    print("  refused:", said.strip().splitlines()[-1][:160])


# Of its requests there are thousands.
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
host, port = server.get_host_and_port()
proxy = Proxy((host, port))
endpoint = f"http://127.0.0.1:{proxy.port}"
s3 = boto3.client(
    "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
)
s3.create_bucket(Bucket="frames")


def objects(prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="frames", Prefix=prefix)
    return sorted(it["Key"] for page in pages for it in page.get("Contents", []))


with tempfile.TemporaryDirectory() as work:
    work = pathlib.Path(work)
    ffmpeg = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x192:rate=10:duration=30"]
    (work / "pictures").mkdir()
    subprocess.run([*ffmpeg, work / "pictures/%03d.jpg"], check=True)
    pictures = sorted((work / "pictures").glob("*.jpg"))
    with open(work / "pictures/labels.jsonl", "w", encoding="utf-8") as labels:
        for number, picture in enumerate(pictures[:120]):
            row = {"file": picture.name, "captured_at": f"2026-06-01T12:{number // 60:02}:{number % 60:02}.5Z", "count": number % 7}
            labels.write(json.dumps(row) + "\n")
    listed = work / "pictures/labels.jsonl"
    at = ["--archive", work / "archive"]
    init = ["archive", "init", *at, "--endpoint", endpoint]

    print("what cannot be: a bucket that is missing, no keys, a wrong address")
    fails("there is no bucket nowhere at", *init, "--frames", "s3://nowhere/site")
    fails("there are no keys", *init, "--frames", "s3://frames/site", env=plain | {"HOME": str(work)})
    fails("is no bucket: write s3://BUCKET/PREFIX", *init, "--frames", "frames/site")
    assert not (work / "archive").exists()

    print("every command")
    print(" ", call(*init, "--frames", "s3://frames/site").strip())
    assert keys["AWS_SECRET_ACCESS_KEY"] not in (work / "archive/archive.toml").read_text()
    call("archive", "add", *at, "--camera", "plaza-1", "--frames", listed, "--task", "count", "--who", "ann")
    call("archive", "embed", *at, "--model", model)
    found = [json.loads(line) for line in call("archive", "find", *at, "--limit", "0", "--json").splitlines()]
    assert len(found) == 120 and objects("site/") == sorted(f"site/{it['path']}" for it in found)
    assert not (work / "archive/frames").exists()
    assert "s3://frames/site/frames" in call("archive", "stats", *at)
    assert ": 0 faults" in call("archive", "verify", *at) and ": 0 faults" in call("archive", "verify", *at, "--quick")
    call("archive", "export", *at, "--task", "count", "--out", work / "out")
    for it, picture in zip(found, pictures):
        assert (work / "out" / it["path"]).read_bytes() == picture.read_bytes()
    call("archive", "export", *at, "--task", "count", "--format", "parquet", "--out", work / "out.parquet")
    sheet = work / "sheet.png"
    call("label", "suggest", *at, "--camera", "plaza-1", "--task", "scalar", "--n", "8", "--batch", "b", "--sheet", sheet)
    assert sheet.stat().st_size > 10_000
    page = subprocess.Popen(
        [program, "label", "serve", *map(str, at), "--batch", "b"], env=environment, stdout=subprocess.PIPE, text=True
    )
    address = re.search(r"(http://\S+)/\?token=(\S+)", page.stdout.readline())
    batch = json.load(urllib.request.urlopen(f"{address[1]}/api/batch?token={address[2]}"))
    shown = urllib.request.urlopen(f"{address[1]}/frames/{batch['frames'][0]['id']}?token={address[2]}").read()
    assert shown in [picture.read_bytes() for picture in pictures]
    page.send_signal(signal.SIGTERM)
    assert page.wait(20) == 0
    print(f"  {len(found)} frames: added, found, verified, exported, drawn, shown")

    print("the endpoint goes down and comes back")
    proxy.down()
    rest = work / "rest"
    rest.mkdir()
    for number, picture in enumerate(pictures[120:160]):
        (rest / f"2026-06-01T13_00_{number:02}.jpg").write_bytes(picture.read_bytes())
    fails("does not do it", "archive", "add", *at, "--camera", "gate", "--frames", rest)
    fails("does not do it", "archive", "verify", *at)
    assert "120 frames" in call("archive", "stats", *at), "what needs no frame works"
    assert len(list((work / "archive/intents").glob("*.intent"))) == 1
    proxy.up = True
    assert ": 0 faults" in call("archive", "verify", *at)
    assert not list((work / "archive/intents").glob("*.intent"))
    call("archive", "add", *at, "--camera", "gate", "--frames", rest)

    print("it goes down while frames are collected")
    camera = Camera([picture.read_bytes() for picture in pictures[::-1]])
    collect = [program, "collect", camera.url, *at, "--camera", "live", "--rate", "10", "--frames", "150"]
    with open(work / "collect.log", "w+", encoding="utf-8") as log:
        running = subprocess.Popen(map(str, collect), env=environment, stdout=log, stderr=log)
        while len(objects("site/frames/live/")) < 30:
            assert running.poll() is None, (work / "collect.log").read_text()
        proxy.down()
        while "frames wait" not in (work / "collect.log").read_text():
            assert running.poll() is None, (work / "collect.log").read_text()
        proxy.up = True
        assert running.wait(120) == 0, (work / "collect.log").read_text()
    said = (work / "collect.log").read_text()
    assert "frames are taken again" in said and "live: 1" in said, said
    print(" ", said.strip().splitlines()[-1])
    assert ": 0 faults" in call("archive", "verify", *at)
    assert len(objects("site/frames/live/")) >= 150

    print("a server keeps samples of its agents' frames, and answers while it cannot")
    pki, ready, log = work / "pki", work / "ready", work / "serve.log"
    call("pki", "init", "--dir", pki)
    call("pki", "issue", "--dir", pki, "--server", "127.0.0.1")
    call("pki", "issue", "--dir", pki, "--camera", "gate-7")
    (work / "encoder.toml").write_text(f"[archive]\ndir = {json.dumps(str(work / 'archive'))}\none_in = 1\n")
    settings = ["--config", work / "encoder.toml", "--model", model, "--pki", pki, "--device", "cpu"]
    serve = [program, "serve", "--listen", "127.0.0.1:0", "--ready-file", ready, *settings]
    with open(log, "w", encoding="utf-8") as out:
        serving = subprocess.Popen(map(str, serve), env=environment, stdout=out, stderr=out)
    while not ready.exists() or not ready.read_text().strip():
        assert serving.poll() is None, log.read_text()
        time.sleep(0.05)
    link = ["--camera", "gate-7", "--server", ready.read_text().strip(), "--identity", pki / "cameras/gate-7"]
    watch = [agent, "run", *link, "--source", listed, "--fps", "5", "--format", "json"]
    watching = subprocess.Popen(map(str, watch), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def until(what, condition):
        while not condition():
            assert serving.poll() is None and watching.poll() is None, (what, log.read_text())
            time.sleep(0.05)

    until("samples", lambda: len(objects("site/frames/gate-7/")) >= 10)
    proxy.down()
    until("a refusal", lambda: "samples are not kept" in log.read_text())
    before = len(objects("site/frames/gate-7/"))
    proxy.up = True
    until("samples again", lambda: len(objects("site/frames/gate-7/")) >= before + 5)
    watching.send_signal(signal.SIGTERM)
    ledger = re.search(r"captured=(\d+) answered=(\d+) dropped=(\d+)", watching.communicate()[1])
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(60) == 0, log.read_text()
    assert ": 0 faults" in call("archive", "verify", *at)
    samples = [it for it in call("archive", "find", *at, "--limit", "0", "--json").splitlines() if '"camera":"gate-7"' in it]
    assert len(objects("site/frames/gate-7/")) == len(samples) and keys["AWS_SECRET_ACCESS_KEY"] not in log.read_text()
    print(f"  {ledger[0]}; {len(samples)} of them in the bucket")

    kills, acknowledged, midway = int(os.environ.get("KILLS") or 20), 0, 0
    print(f"killed {kills} times while frames are added")
    chance = random.Random(8)
    for number in range(kills):
        add = ["archive", "add", *at, "--camera", f"k-{number}", "--frames", listed, "--batch", "7", "--json"]
        child = subprocess.Popen([program, *map(str, add)], env=environment, stdout=subprocess.PIPE, text=True)
        wanted, lines = chance.randrange(110), []
        while len(lines) < wanted and (line := child.stdout.readline()):
            lines.append(line)
        time.sleep(chance.random() / 30)  # a moment that nothing is known about
        child.kill()
        lines += child.stdout.readlines()
        child.wait()
        kept = {json.loads(line)["id"] for line in lines if line.endswith("\n")}
        acknowledged, midway = acknowledged + len(kept), midway + (len(kept) < 120)
        call("archive", "stats", *at)  # settles what it left
        here = {
            json.loads(line)["id"]
            for line in call("archive", "find", *at, "--limit", "0", "--json").splitlines()
            if f'"camera":"k-{number}"' in line
        }
        assert kept <= here, kept - here
        assert len(objects(f"site/frames/k-{number}/")) == len(here), "unlinked objects"
    said = call("archive", "verify", *at)
    assert ": 0 faults" in said and midway, said
    print(f"  kills={kills} mid_way={midway} acknowledged={acknowledged}, all of them there; {said.strip()}")

    print("what is to go is gone")
    call("archive", "forget", *at, "--camera", "plaza-1", "--yes")
    assert objects("site/frames/plaza-1/") == []
    ids = [it["id"] for it in found]
    for path in (work / "archive").rglob("*"):
        text = path.read_bytes() if path.is_file() else b""
        assert not any(id.encode() in text or bytes.fromhex(id) in text for id in ids), path
    with open(work / "archive/archive.toml", "a", encoding="utf-8") as settings:
        settings.write('\n[cameras.gate]\nkeep_for = "1day"\n')
    assert "gate: 40 frames removed" in call("archive", "gc", *at)
    assert objects("site/frames/gate/") == []

    print("denied")
    # As a form, which urllib would call it, moto finds no number.
    kind = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset-auth", b"0", kind))
    fails("denies it", "archive", "verify", *at)
    fails("denies it", "archive", "add", *at, "--camera", "other", "--frames", rest)

server.stop()
print("S3: everything as it should be")
