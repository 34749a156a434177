"""Headless Chromium by its DevTools protocol over two pipes: no driver, no package, no port."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser():
    """The path of one that is on the machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page, which can be asked things."""

    def __init__(self, program, profile):
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4; a shell puts them there, for 3 and 4 may be ours
        script = f'exec "$@" 3<&{theirs_read} 4>&{theirs_write}'
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-extensions", "--disable-sync"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "browser", program, *flags, *quiet, "--mute-audio", "about:blank"],
            pass_fds=(theirs_read, theirs_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_read)
        os.close(theirs_write)
        self._in, self._out = os.fdopen(ours_read, "rb"), os.fdopen(ours_write, "wb")
        self._count, self.events, self._session, self._rest = 0, [], None, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def close(self):
        """End the browser."""
        try:
            self._session = None
            self.call("Browser.close")
        except (EOFError, OSError):
            pass
        self._in.close()
        self._out.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method, **params):
        """Send a command and wait for its answer; events that come first are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            more = self._in.read1(1 << 16)
            if not more:
                raise EOFError("the browser has gone")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, file, *, width, height=900, theme="light", motion="reduce"):
        """Load a file in a window of that width, and forget what came before."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=Path(file).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, script):
        """The value of an expression, promises awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def press(self, key, code=None, **more):
        """A key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **more)

    def drag(self, start, end):
        """The mouse, pressed at one place and let go at another."""
        for kind, (x, y), buttons in (
            ("mousePressed", start, 1),
            ("mouseMoved", end, 1),
            ("mouseReleased", end, 0),
        ):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def picture(self, file, *, whole=True, clip=None):
        """A screenshot as a file."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **more)
        Path(file).write_bytes(base64.b64decode(shot["data"]))

    def complaints(self):
        """What the page said on the console, and what it threw."""
        said = [event for event in self.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
        spoken = [event for event in self.events if event.get("method") == "Runtime.consoleAPICalled"]
        return [json.dumps(event["params"])[:500] for event in said + spoken]

    def requests(self):
        """Everything that it asked for, beside itself and what it holds."""
        asked = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in asked]
        return [url for url in urls[1:] if not url.startswith("data:")]


CONTRAST = """
(() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 1 : 255;
    return [...numbers.slice(0, 3).map((v) => v / scale), numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (front, back) => back.map((v, i) => (i < 3 ? front[3] * front[i] + (1 - front[3]) * v : 1));
  const ground = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((back, layer) => over(layer, back), [1, 1, 1, 1]);
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  let seen = 0;
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), node = texts.currentNode.parentElement;
    if (!text || node.closest("script, style, [hidden]")) continue;
    const style = getComputedStyle(node), inSvg = node instanceof SVGElement;
    const back = ground(node), front = over(parse(inSvg ? style.fill : style.color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((p, q) => p - q);
    seen += 1;
    if ((high + 0.05) / (low + 0.05) < 4.5) found.push([text.slice(0, 40), style.color, (high + 0.05) / (low + 0.05)]);
  }
  return { seen, found };
})()
"""
"""Texts whose colour stands at less than 4.5 : 1 to what is behind them."""
