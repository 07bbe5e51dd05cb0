"""Headless Chromium, driven over its DevTools protocol.

The browser is Debian's package, and messages go through the pipe that `--remote-debugging-pipe` opens (file descriptors
3 and 4, JSON with a zero byte after each message): no port that may be taken, no websocket, no driver program whose
version must fit, no Python package. A page that asks for anything but itself is an error.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 60
"""That anything may take; starting on a busy machine takes a few."""


class Browser:
    """One window. Close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        if BROWSER is None:
            raise FileNotFoundError("Browser: chromium is not installed")
        to_browser, self._write = _high_pipe()
        self._read, from_browser = _high_pipe()
        # Sandboxes need rights that containers lack; what is opened here is our own.
        flags = ["--headless=new", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={folder}",
                 "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 "--disable-background-networking", "--mute-audio"]  # fmt: skip
        # The shell gives the pipes the numbers that the browser expects.
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser} {to_browser}<&- {from_browser}<&-'
        self._process = subprocess.Popen(
            ["bash", "-c", script, BROWSER, *flags, "about:blank"], pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.requests: list[str] = []
        """Addresses that the page asked for."""
        self.complaints: list[str] = []
        """What the page wrote to the console as an error, and exceptions that nobody caught."""
        target = self._wait_for_window()
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int = 1280, height: int = 1200, dark: bool = False) -> None:
        """Load a file and wait until it is there."""
        self.requests.clear()
        self.complaints.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait_until("document.readyState === 'complete' && location.protocol === 'file:'")

    def value(self, script: str) -> Any:
        """What a line of JavaScript gives."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_until(self, script: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.value(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script} is not true after {SECONDS} s")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, as a user would."""
        x, y = self.middle(selector)
        self.drag((x, y), (x, y))

    def middle(self, selector: str) -> tuple[float, float]:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.value(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        return x, y

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        steps = [("mousePressed", begin), ("mouseMoved", end), ("mouseReleased", end)]
        for kind, (x, y) in steps:
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str) -> None:
        code = {" ": "Space"}.get(key, key)
        text = {"text": key} if len(key) == 1 else {}
        virtual = {" ": 32, "ArrowLeft": 37, "ArrowRight": 39, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35}
        number = virtual.get(key, ord(key[0].upper()))
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, windowsVirtualKeyCode=number, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=code, windowsVirtualKeyCode=number)

    def screenshot(self, whole: bool = False) -> bytes:
        """The window as a PNG file, or the whole page."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _wait_for_window(self) -> str:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for target in self.send("Target.getTargets")["targetInfos"]:
                if target["type"] == "page":
                    return str(target["targetId"])
            time.sleep(0.05)
        raise TimeoutError(f"Browser: no window after {SECONDS} s")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], SECONDS)[0]:
                raise TimeoutError(f"Browser: no answer after {SECONDS} s")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise ConnectionError("Browser: chromium ended")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])


def _high_pipe() -> tuple[int, int]:
    """A pipe whose numbers are not 3 and 4, which the shell is about to give away."""
    ends = os.pipe()
    high = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 64), fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, 64)
    for end in ends:
        os.close(end)
    return high
