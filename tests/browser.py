"""A headless Chromium, driven over its DevTools protocol through two pipes.

No package is needed for it: messages are JSON with a zero byte after each, written to the
browser's file descriptor 3 and read from its 4 (``--remote-debugging-pipe``).
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Seconds that one answer may take.
PATIENCE = 30
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-breakpad", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


def find():
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """The browser refused something, or did not answer."""


class Browser:
    """A browser with one page.

    Parameters
    ----------
    path : str
        Of the program.
    folder : str
        An empty one, for its profile.
    """

    def __init__(self, path, folder):
        reads, self._write = os.pipe()
        self._read, writes = os.pipe()
        # Out of the way of the numbers that the browser wants.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (reads, writes)]
        self._process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: (os.dup2(ends[0], 3), os.dup2(ends[1], 4)),
            start_new_session=True,
        )
        for end in (reads, writes, *ends):
            os.close(end)
        self._rest, self._number, self._session, self.events = b"", 0, None, []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            found = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = found["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method, **parameters):
        """Ask for something, and wait for the answer.

        Raises
        ------
        BrowserError
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self._number, method)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, method):
        """Wait for an event that has not been waited for yet, and take it."""
        for event in self.events:
            if event["method"] == method:
                self.events.remove(event)
                return event["params"]
        event = self._until(lambda message: message.get("method") == method, method)
        self.events.remove(event)
        return event["params"]

    def _until(self, wanted, what):
        end = time.monotonic() + PATIENCE
        while True:
            message = self._message(end, what)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _message(self, end, what):
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0, end - time.monotonic()))[0]:
                raise BrowserError(f"no answer to {what} within {PATIENCE} seconds")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise BrowserError(f"the browser ended at {what}")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message.decode())

    def open(self, url):
        """Load a page; what happened before is forgotten."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def run(self, expression):
        """The value of a JavaScript expression, once it is there."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def seen(self, *methods):
        """Events of these kinds since the page was opened."""
        self.run("0")  # everything before it has then been read
        return [event["params"] for event in self.events if event["method"] in methods]

    def size(self, width, height=900, phone=False):
        """Set the window's size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip

    def media(self, media="", **features):
        """Set what media queries see, such as ``prefers_color_scheme="dark"``."""
        found = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=found)

    def centre(self, expression):
        """The middle of an element, which is scrolled to."""
        self.run(f"({expression}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        return self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(({expression}).getBoundingClientRect())"
        )

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, expression):
        x, y = self.centre(expression)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def screenshot(self, path, whole=True):
        """Write a PNG, of the whole page or of what the window shows."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(found["data"]))

    def close(self):
        """End the browser with all of its processes."""
        self._session = None
        with contextlib.suppress(BrowserError, OSError, subprocess.TimeoutExpired):
            self.call("Browser.close")
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
