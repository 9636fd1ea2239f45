"""A headless Chromium that reports what a page did; `missing` skips a test that lacks it."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import pytest
import websocket

# Chrome first: Ubuntu 24.04 allows only its sandbox, and GitHub's machines have both programs.
PROGRAMS = ("google-chrome", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = [
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--remote-debugging-port=0",
]
PATIENCE = 60  # seconds, for a start or a page on a busy machine
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Fulfilled when the page is loaded, its equations are set, and nothing more is expected.
SETTLED = """(async () => {
  if (document.readyState !== "complete") await new Promise(done => addEventListener("load", done));
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await new Promise(done => setTimeout(done, 300));
})()"""


def missing(program: str) -> NoReturn:
    """Skip the test; fail it where NVP_REQUIRE_BROWSER=1 says that the program has to be there."""
    reason = f"{program} is not installed"
    if os.environ.get("NVP_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and NVP_REQUIRE_BROWSER is 1")
    pytest.skip(reason)


class Browser:
    """A browser with one tab, since a new one takes as long as a page, spoken to by DevTools."""

    def __init__(self, executable: str) -> None:
        self.profile = tempfile.mkdtemp()
        flags = [*FLAGS, f"--user-data-dir={self.profile}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium has no sandbox for root
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([executable, *flags], stdout=quiet, stderr=quiet)
        self.socket = self._tab(self._port())
        self.number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _port(self) -> str:
        """The port that the browser listens on, once it has written it down."""
        file = Path(self.profile, "DevToolsActivePort")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if file.exists() and (lines := file.read_text().split()):
                return lines[0]
            if self.process.poll() is not None:
                raise ChildProcessError(f"Chromium ended at once, with {self.process.returncode}")
            time.sleep(0.1)
        raise TimeoutError(f"Chromium did not start within {PATIENCE} s")

    def _tab(self, port: str) -> websocket.WebSocket:
        """A connection to a new tab."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
        address = json.load(direct.open(request))["webSocketDebuggerUrl"]
        return websocket.create_connection(
            address, timeout=PATIENCE, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call one method of the protocol and return its result; events are kept."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def open(self, page: Path, width: int = 1400, height: int = 1600, dark: bool = False) -> None:
        """Open a local page in a window of this size, and wait until its equations are set."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)
        self.events.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))
        try:
            self.value(SETTLED)
        except RuntimeError:  # the page sent its reader on, as the book's index.html does
            self.value(SETTLED)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, a promise awaited."""
        how = {"awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Every address that the page has asked for, over a network or from the disk."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def errors(self) -> list[str]:
        """What stands in red in the console."""
        found = []
        for event in self.events:
            what = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(what["exceptionDetails"].get("exception", {}).get("description", "?"))
            elif event["method"] == "Runtime.consoleAPICalled" and what["type"] == "error":
                found.append(" ".join(str(part.get("value")) for part in what["args"]))
            elif event["method"] == "Log.entryAdded" and what["entry"]["level"] == "error":
                found.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")
        return found

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        shutil.rmtree(self.profile, ignore_errors=True)
