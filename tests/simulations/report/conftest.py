"""A browser that tests can look through: headless Chromium over its debugging pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from flwr_krum.boundary.replies import Refused
from flwr_krum.guarantee import Guarantee
from flwr_krum.report import RoundReport
from flwr_krum.report_page.render import render
from simulations.report.runs import Run
from simulations.run.config import RunConfig
from simulations.run.history import RoundRecord

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Browser:
    """Chromium with one page, spoken to over a pair of pipes as its file descriptors 3 and 4."""

    def __init__(self, home):
        to_browser, self._in = os.pipe()
        self._out, from_browser = os.pipe()
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", f"--user-data-dir={home}", "--no-first-run",
            "--disable-background-networking", "--hide-scrollbars", "about:blank",
        ]  # fmt: skip
        # The shell puts our ends of the pipes where the browser looks for them.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._events = b"", 0, []
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path, width=1280, height=900, phone=False, dark=False):
        """Open a file in a window of the given size and wait until it is drawn."""
        self.url = path.resolve().as_uri()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        self._events.clear()
        self.call("Page.navigate", url=self.url)
        self.evaluate(
            "new Promise(go => document.readyState === 'complete' ? go() : (onload = go))"
        )
        self.settle()

    def call(self, method, **parameters):
        """Call a method of the debugging protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while (answer := self._receive(deadline)).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _receive(self, deadline):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._out, 1 << 20)
            assert read, "the browser has gone"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def evaluate(self, expression):
        """Evaluate JavaScript in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self):
        """Wait until what was changed is drawn."""
        self.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")

    def screenshot(self):
        """Return the window as a PNG picture."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def point_at(self, selector, x=0.5, y=0.5):
        """Move the mouse to a place in an element, given as shares of its width and height."""
        left, top, width, height = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        where = {"x": left + x * width, "y": top + y * height}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
        return where

    def click(self, selector):
        where = self.point_at(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)
        self.settle()

    def press(self, *keys):
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    @property
    def tip(self):
        """The lines of the tip, or none while it is hidden."""
        return self.evaluate("tip.hidden ? [] : [...tip.children].map(line => line.innerText)")

    @property
    def complaints(self):
        """What the console said, exceptions, and requests for anything but the file itself."""
        self.settle()  # whatever was on its way has arrived after this
        found = []
        for event in self._events:
            match event["method"], event["params"]:
                case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                    found.append(f"exception: {details}")
                case "Runtime.consoleAPICalled", {"args": arguments}:
                    found.append(f"console: {arguments}")
                case "Log.entryAdded", {"entry": entry}:
                    found.append(f"log: {entry['text']}")
                case "Network.requestWillBeSent", {"request": {"url": url}} if url != self.url:
                    found.append(f"request: {url}")
        return found

    def close(self):
        """End the browser and every process of it."""
        self._session = None
        self.call("Browser.close")
        os.close(self._in)
        self.process.wait(20)
        os.close(self._out)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH (apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def make_run():
    """A function that makes a run out of reports, without computing anything.

    Accuracy rises in steps of 0.01 from 0.5, loss falls from 1 in steps of 0.01.
    """

    def make(*reports, label="run", **config):
        keys = {name.replace("_", "-"): value for name, value in config.items()}
        base = {"num-server-rounds": max(1, len(reports)), "num-clients": 7}
        history = [
            RoundRecord(t, round(0.5 + 0.01 * t, 2), round(1 - 0.01 * t, 2))
            for t in range(len(reports) + 1)
        ]
        run_config = RunConfig.from_config({**base, **keys})
        return Run(label, Path("runs", label), run_config, history, reports, None)

    return make


@pytest.fixture
def hostile_texts():
    """What a client might send in the hope that a page takes it for its own."""
    return (
        "</script><script>window.owned=1</script>",
        "<img src=x onerror=window.owned=1>",
        "\"'><svg onload=window.owned=1>",
        "<!--<script>",
        "</style></title></textarea><b onmouseover=window.owned=1>",
        "]]>{{ 7 * 7 }}${window.owned=1}`\\",
        "&lt;script&gt;window.owned=1&lt;/script&gt;",
        "javascript:window.owned=1",
        "\u2028window.owned=1//\u202e\x00\ud800",
    )


@pytest.fixture
def run_with_texts(make_run):
    """A function that makes a run in which every place that a client can reach holds a text."""

    def make(texts):
        reports = [
            RoundReport(
                t, f"rule {text}", 2, received=(0, 1, f"node {text}"),
                refused=(Refused(6, text), Refused(f"stranger {text}", f"in {text}")),
                failed={5: text, f"failure {text}": text}, doubted={0: text},
                silent=(f"silent {text}",), scores={0: 1.0}, selected=(0, f"node {text}"),
                guarantee=Guarantee("cannot be known", 7, 2, reason=text), note=text,
            )
            for t, text in enumerate(texts, 1)
        ]  # fmt: skip
        label, folder = f"run {texts[0]}", texts[1]
        return make_run(*reports, label=label, f=2, attack="malformed", data_dir=folder)

    return make


@pytest.fixture
def large_run(make_run):
    """A function that makes a run in which hostile replies are refused, each for its own reason."""

    def make(rounds=500, n=100, f=30):
        draw = np.random.default_rng(0)
        reports = []
        for t in range(1, rounds + 1):
            scores = draw.gamma(3.0, 0.02, n).tolist()
            refused = [i for i in range(n - f, n) if draw.random() < 0.1]
            received = [i for i in range(n) if i not in refused]
            best = sorted(received, key=scores.__getitem__)[: n - f]
            reports.append(
                RoundReport(
                    t, f"MultiKrum(f={f})", f, received=tuple(received),
                    stepped=True, selected=tuple(best),
                    refused=tuple(Refused(i, f"made up {t} {i} {'x' * 400}") for i in refused),
                    scores={i: scores[i] for i in received},
                    guarantee=Guarantee("does not hold", n, f, 1.0, 1.0, 1.0, scores[0], 2.0),
                )
            )  # fmt: skip
        return make_run(*reports, num_clients=n, f=f, attack="gaussian")

    return make


@pytest.fixture
def open_page(browser, tmp_path):
    """A function that opens the report on some runs; it may leave no complaint behind."""

    def open_(*runs, **window):
        path = tmp_path / "report.html"
        path.write_text(render(runs), encoding="utf-8")
        browser.open(path, **window)
        return browser

    yield open_
    assert browser.complaints == []
