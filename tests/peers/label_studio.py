"""Batches of an archive through a real Label Studio: pushed by `dc-encoder`, annotated by two people through its API, pulled.

Usage: label_studio.py PATH/TO/dc-encoder, with an interpreter that has label-studio beside it. The server listens on
loopback, on a free port, with its data in a temporary folder, and ends with this program.
"""

import http.cookiejar
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from archived import encoder, fill, found
from children import free_port

START_SECONDS = 300
STUDIO = str(Path(sys.executable).parent / "label-studio")
PASSWORD = secrets.token_hex(12)
TOKEN = secrets.token_hex(20)


class Person:
    """Somebody in the browser: signs up by the form, and annotates with the session's cookie."""

    def __init__(self, url, email):
        self.url, self.email, self.jar = url, email, http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def enter(self, page):
        form = self.opener.open(f"{self.url}/user/{page}/").read().decode()
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form).group(1)
        fields = {"csrfmiddlewaretoken": csrf, "email": self.email, "password": PASSWORD, "allow_newsletters": "false"}
        request = urllib.request.Request(
            f"{self.url}/user/{page}/", urllib.parse.urlencode(fields).encode(), headers={"Referer": self.url}
        )
        self.opener.open(request).read()
        assert self.ask("GET", "/api/current-user/whoami")["email"] == self.email
        return self

    def ask(self, method, path, body=None):
        csrf = next((it.value for it in self.jar if it.name == "csrftoken"), "")
        headers = {"Content-Type": "application/json", "X-CSRFToken": csrf, "Referer": self.url}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        answer = self.opener.open(request).read()
        return json.loads(answer) if answer else None

    def tasks(self, batch):
        projects = self.ask("GET", "/api/projects/?page_size=100")["results"]
        tasks = []
        for project in projects:
            query = f"project={project['id']}&page_size=100&fields=all"
            tasks += self.ask("GET", f"/api/tasks/?{query}")["tasks"]
        tasks = [it for it in tasks if it["data"].get("batch") == batch]
        return sorted(tasks, key=lambda it: it["data"]["path"])

    def annotate(self, task, result):
        return self.ask("POST", f"/api/tasks/{task['id']}/annotations/", {"result": result})


def number(value):
    return {"from_name": "count", "to_name": "image", "type": "number", "value": {"number": value}}


def choice(name):
    return {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": [name]}}


def box(x, y, width, height, size=(64, 48)):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["person"]}
    kind = {"from_name": "boxes", "to_name": "image", "type": "rectanglelabels", "value": value}
    return {**kind, "original_width": size[0], "original_height": size[1], "image_rotation": 0}


def serve(home):
    port = free_port()
    environment = {
        **os.environ,
        "LABEL_STUDIO_USERNAME": "ann@example.com",
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "no_proxy": "*",
    }
    command = [STUDIO, "start", "-b", "--internal-host", "127.0.0.1", "-p", str(port), "--data-dir", str(home / "studio")]
    log = open(home / "studio.log", "wb")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url, since = f"http://127.0.0.1:{port}", time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(f"{url}/health", timeout=5).read()
            return server, url
        except OSError:
            ended = server.poll() is not None
            if ended or time.monotonic() - since > START_SECONDS:
                server.kill()
                raise SystemExit("Label Studio does not start:\n" + (home / "studio.log").read_text()[-3000:]) from None
            time.sleep(1)


def config(home, url, title, **more):
    keys = {"url": url, "title": title, "annotators": 2, **more}
    lines = ["[label]", 'classes = ["clear", "fog"]', "[label_studio]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    (home / "label.toml").write_text("\n".join(lines) + "\n")


def check(home, url):
    ann = Person(url, "ann@example.com").enter("login")
    ben = Person(url, "ben@example.com").enter("signup")
    (home / "token").write_text(TOKEN + "\n")

    print("== counts, by two people, with a legacy token")
    config(home, url, "People on the plaza", token_file="token")
    push = ["label", "push", "--batch", "monday", "--to", "label-studio"]
    assert "monday: 4 frames sent to label-studio" in encoder(home, *push)
    assert "monday: 0 frames sent" in encoder(home, *push)
    tasks = ann.tasks("monday")
    frames = {it["id"]: it for it in found(home)}
    assert len(tasks) == 4 and all(frames[it["data"]["frame"]]["path"] == it["data"]["path"] for it in tasks)
    for task in tasks:
        record = frames[task["data"]["frame"]]
        picture = ann.opener.open(url + task["data"]["image"]).read()
        assert picture == (home / "archive" / record["path"]).read_bytes(), "the picture that people see is the frame's"
    for n, task in enumerate(tasks):
        ann.annotate(task, [number(n)])
    second = ben.annotate(tasks[0], [number(5)])
    ben.annotate(tasks[1], [number(1)])
    pull = ["label", "pull", "--batch", "monday"]
    assert "monday: 6 new labels, 0 changed, 0 were there" in encoder(home, *pull)
    assert "monday: 0 new labels, 0 changed, 6 were there" in encoder(home, *pull)
    status = encoder(home, "label", "status", "--batch", "monday")
    assert "4 of 4 labelled" in status and status.count("disputed") == 1
    assert "ann@example.com 0.0, ben@example.com 5.0; 2.5 counts" in status, status
    assert "1 of them disputed" in encoder(home, "archive", "stats")
    ben.ask("PATCH", f"/api/annotations/{second['id']}/", {"result": [number(0)]})
    assert "0 new labels, 1 changed, 5 were there" in encoder(home, *pull)
    status = encoder(home, "label", "status", "--batch", "monday")
    assert "disputed" not in status and "ben@example.com 0.0, before 5.0 at" in status

    print("== what comes back wrong is named")
    spoiled = ann.tasks("monday")[3]
    data = {**spoiled["data"], "path": "frames/plaza-2/other.jpg"}
    ann.ask("PATCH", f"/api/tasks/{spoiled['id']}/", {"data": data})
    said = encoder(home, *pull)
    assert "5 were there, 1 refused" in said and "it was changed there" in said, said

    print("== classes, by a personal token")
    personal = ann.ask("POST", "/api/token/", {})["token"]
    (home / "token").unlink()
    config(home, url, "Weather")
    push = ["label", "push", "--batch", "weather", "--to", "label-studio"]
    assert "weather: 4 frames sent" in encoder(home, *push, LABEL_STUDIO_TOKEN=personal)
    for person, names in [(ann, ["clear", "fog", "fog"]), (ben, ["clear", "fog", "clear"])]:
        for name, task in zip(names, person.tasks("weather")):
            person.annotate(task, [choice(name)])
    pull = ["label", "pull", "--batch", "weather"]
    assert "weather: 6 new labels" in encoder(home, *pull, LABEL_STUDIO_TOKEN=personal)
    assert "undecided" in encoder(home, "label", "status", "--batch", "weather")

    print("== boxes, and a picture of another size")
    config(home, url, "Boxes", boxes="person")
    push = ["label", "push", "--batch", "boxes", "--to", "label-studio"]
    assert "boxes: 4 frames sent" in encoder(home, *push, LABEL_STUDIO_TOKEN=personal)
    tasks = ann.tasks("boxes")
    ann.annotate(tasks[0], [box(10, 20, 30, 40), box(50, 50, 50, 50)])
    ann.annotate(tasks[1], [])
    ann.annotate(tasks[2], [box(10, 20, 30, 40, size=(640, 480))])
    said = encoder(home, "label", "pull", "--batch", "boxes", LABEL_STUDIO_TOKEN=personal)
    assert "1 refused" in said and "was sent as 64×48 pixels and comes back as 640×480" in said
    labels = [label for it in found(home) for label in it["labels"] if label["from"] == "label-studio boxes"]
    boxes = [it["answer"]["count"].get("boxes") for it in labels if it["answer"]["count"]["value"] == 2.0]
    assert boxes == [[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5]]], labels

    print("== a token that is refused")
    said = encoder(home, *push, fails=True, LABEL_STUDIO_TOKEN="f" * 40)
    assert "refuses the token (HTTP 401" in said and "f" * 40 not in said


def main():
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home, [("count", "monday"), ("class", "weather"), ("count", "boxes")])
        server, url = serve(home)
        try:
            check(home, url)
        finally:
            server.terminate()
            server.wait()
    print("a real Label Studio: all as expected")


main()
