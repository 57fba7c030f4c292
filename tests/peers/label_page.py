"""The page of `dc-encoder label serve` in a real browser: argument 1 is dc-encoder; needs chromedriver and its browser.

Labels by keyboard and mouse as a person does, through the WebDriver protocol (W3C), and looks at what came into the archive.
CHROMEDRIVER: the program, else one of the PATH. Everything listens on loopback and ends with this program.
"""

import json
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from archived import ENCODER, fill, found
from children import ended, started

WITHIN_SECONDS = 60
ENTER, LEFT, RIGHT, BACKSPACE, ESCAPE = "\ue007", "\ue012", "\ue014", "\ue003", "\ue00c"


class Browser:
    """A window of a browser without a screen."""

    def __init__(self, home):
        driver = os.environ.get("CHROMEDRIVER") or "chromedriver"
        try:
            self.driver, port = started([driver, "--port=0"], r"started successfully on port (\d+)")
        except FileNotFoundError:
            raise SystemExit(f"{driver} was not found: apt-get install chromium chromium-driver") from None
        self.url, self.session = f"http://127.0.0.1:{port}", None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        arguments = ["--headless=new", "--window-size=1000,800", f"--user-data-dir={home / 'profile'}", "--no-proxy-server"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # the browser has none for root
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.session = made["sessionId"]

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        at = self.url + (f"/session/{self.session}" if self.session else "") + path
        request = urllib.request.Request(at, data, {"Content-Type": "application/json"}, method=method)
        try:
            return json.loads(self.opener.open(request, timeout=WITHIN_SECONDS).read())["value"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{path}: {refused.read().decode()}") from None

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def js(self, expression):
        return self.ask("POST", "/execute/sync", {"script": f"return {expression}", "args": []})

    def until(self, expression, wanted):
        """Waits until an expression has a value."""
        end = time.monotonic() + WITHIN_SECONDS
        while (value := self.js(expression)) != wanted:
            assert time.monotonic() < end, f"{expression} is {value!r}, not {wanted!r}; the browser says {self.log()}"
            time.sleep(0.05)

    def shows(self, where, text):
        self.until(f"document.getElementById('{where}').textContent", text)

    def keys(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def draw(self, left, top, right, bottom):
        """Drags over a part of the picture, in shares of its sides."""
        area = self.js("document.getElementById('picture').getBoundingClientRect().toJSON()")

        def move(x, y):
            x, y = round(area["left"] + x * area["width"]), round(area["top"] + y * area["height"])
            return {"type": "pointerMove", "duration": 0, "origin": "viewport", "x": x, "y": y}

        button = {"button": 0}
        moves = [move(left, top), {"type": "pointerDown", **button}, move(right, bottom), {"type": "pointerUp", **button}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}
        self.ask("POST", "/actions", {"actions": [mouse]})

    def log(self):
        return [it["message"] for it in self.ask("POST", "/se/log", {"type": "browser"})]

    def close(self):
        if self.session:
            self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


def page(home, batch, *more):
    command = [ENCODER, "label", "serve", "--batch", batch, "--who", "ann", "--until-done", *more]
    return started(command, r"label in the browser: (\S+)", cwd=home)


def labels(home, task):
    frames = sorted(found(home), key=lambda it: it["captured_at"])
    answers = {it["id"]: label["answer"][task] for it in frames for label in it["labels"] if task in label["answer"]}
    people = {label["who"] for it in frames for label in it["labels"]}
    assert people == {"ann"}, people
    return answers


def counts(home, browser):
    server, url = page(home, "monday")
    browser.open(url)
    browser.shows("where", "monday: 1 of 4, 0 labelled")
    browser.until("document.getElementById('picture').naturalWidth", 64)
    ids = browser.js("batch.frames.map((it) => it.id)")

    browser.keys(ENTER)
    browser.shows("error", "nothing to save yet")
    browser.keys("1", "2", BACKSPACE, "7", ENTER)
    browser.shows("where", "monday: 2 of 4, 1 labelled")

    browser.draw(0.25, 0.25, 0.5, 0.75)
    browser.draw(0.9, 0.9, 0.6, 0.5)
    browser.draw(0.3, 0.3, 0.3, 0.3)
    browser.draw(0.1, 0.1, 0.2, 0.2)
    browser.shows("answer", "3")
    assert browser.js("document.querySelectorAll('.box').length") == 3, "a click is no box"
    browser.keys(BACKSPACE, ENTER)
    browser.shows("where", "monday: 3 of 4, 2 labelled")

    browser.keys(LEFT)
    browser.shows("answer", "2")
    assert browser.js("document.querySelectorAll('.box').length") == 2, "boxes that were saved are shown"
    browser.keys(RIGHT, "9", ESCAPE, "0", ENTER)
    browser.shows("where", "monday: 4 of 4, 3 labelled")
    browser.keys(LEFT, LEFT, LEFT)
    browser.shows("answer", "17")
    browser.keys(ESCAPE, "5", ENTER)
    browser.shows("where", "monday: 2 of 4, 3 labelled")

    # Opened again, it begins where no label is; a number beside a box counts alone.
    browser.open(url)
    browser.shows("where", "monday: 4 of 4, 3 labelled")
    browser.until("document.getElementById('picture').naturalWidth", 64)
    browser.draw(0.1, 0.1, 0.4, 0.4)
    browser.shows("answer", "1")
    browser.keys("4", ENTER)
    assert "monday: 4 of 4 labelled" in ended(server, WITHIN_SECONDS)

    answers = labels(home, "count")
    assert [answers[it]["value"] for it in ids] == [5, 2, 0, 4], answers
    assert [it for it in ids if "boxes" in answers[it]] == [ids[1]], "a number that was typed has no boxes"
    for box, drawn in zip(answers[ids[1]]["boxes"], [(0.25, 0.25, 0.25, 0.5), (0.6, 0.5, 0.3, 0.4)]):
        assert all(abs(a - b) < 0.02 for a, b in zip(box, drawn)), (box, drawn)


def classes(home, browser):
    server, url = page(home, "weather", "--classes", "clear,fog")
    browser.open(url)
    browser.shows("where", "weather: 1 of 4, 0 labelled")
    ids = browser.js("batch.frames.map((it) => it.id)")
    browser.keys("3")
    browser.shows("answer", "–")
    for n, key in enumerate("1221"):
        browser.keys("1", key)
        browser.shows("answer", ["clear", "fog"][int(key) - 1])
        browser.keys(ENTER)
        if n < 3:
            browser.shows("where", f"weather: {n + 2} of 4, {n + 1} labelled")
    assert "weather: 4 of 4 labelled" in ended(server, WITHIN_SECONDS)
    answers = labels(home, "class")
    assert [answers[it] for it in ids] == ["clear", "fog", "fog", "clear"], answers


def strangers(home, browser):
    """Without the token nothing is shown; when the server is gone, nothing is lost in silence."""
    server, url = page(home, "later")
    browser.open(re.sub(r"token=\w+", "token=guessed", url))
    browser.until("document.body.textContent.includes('the address lacks its token')", True)
    assert any("403" in it for it in browser.log()), "it is the server that refuses"
    browser.open(url)
    browser.shows("where", "later: 1 of 4, 0 labelled")
    server.terminate()
    ended(server, WITHIN_SECONDS)
    browser.keys("3", ENTER)
    browser.until("document.getElementById('error').textContent !== ''", True)
    browser.shows("where", "later: 1 of 4, 0 labelled")
    browser.shows("answer", "3")


def main():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        fill(home, [("count", "monday"), ("class", "weather"), ("scalar", "later")])
        browser = Browser(home)
        try:
            for check in (counts, classes):
                check(home, browser)
                assert (said := browser.log()) == [], f"blocked, or failed: {said}"
                print(f"{check.__name__}: as a person does, and in the archive")
            strangers(home, browser)
        finally:
            browser.close()
    print("the label page in a browser: all as expected")


if __name__ == "__main__":
    sys.exit(main())
