"""The status page in a real browser: Chromium takes it without script, in light and dark, and blocks nothing.

Usage: page.py BINARY [FOLDER]     # keeps the screenshots in the folder
"""

import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from html import escape

from servers import get_json, wait_until

LIGHT, DARK = 1, 0
PHONE = 390


def screenshot(url, path, scheme):
    """What the browser's console said meanwhile."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,520",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--enable-logging=stderr", f"--user-data-dir={path.parent}/profile", f"--screenshot={path}", url,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stderr


def brightness(path):
    """The mean brightness of the picture's first rows, from 0 to 255."""
    picture = subprocess.run(["convert", path, "ppm:-"], check=True, capture_output=True).stdout
    kind, width, _, depth, pixels = re.match(rb"(P6)\s+(\d+)\s+(\d+)\s+(\d+)\s(.*)", picture, re.DOTALL).groups()
    assert (kind, depth) == (b"P6", b"255"), (kind, depth)
    rows = pixels[: int(width) * 40 * 3]
    return sum(rows) / len(rows)


def width_of_content(html, folder, width):
    """How wide the page is in a window of this width, in pixels. A browser's own window would be no narrower than 500."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe width={width} height=800 srcdoc="{escape(html)}"></iframe><p id=width>'
        "<script>onload = () => { document.getElementById('width').textContent = "
        "frames[0].document.documentElement.scrollWidth }</script>"
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--dump-dom", frame.as_uri()]
    document = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return int(re.search(r'id="width">(\d+)', document)[1])


def main():
    binary, *folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        kept = pathlib.Path(folder[0] if folder else temporary).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        demo = subprocess.Popen(
            [binary, "demo", "--web.listen-address", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        page, _, simulator = [demo.stdout.readline().split()[-1] for _ in range(3)]
        users = {account["alias"]: user for user, account in get_json(simulator)["accounts"].items()}
        order = urllib.request.Request(
            f"{simulator}/accounts/{users['finance']}", data=b'{"fault": {"kind": "status", "status": 500}}', method="PUT"
        )
        urllib.request.urlopen(order, timeout=10).close()
        html = lambda: urllib.request.urlopen(page, timeout=10).read().decode()
        wait_until("one account is down and two are up", lambda: "2 of 3 accounts up" in html() and "down: " in html())
        assert "<script" not in html()
        long = html().replace("production", "p" * 128)
        assert "p" * 128 in long
        assert (width := width_of_content(long, kept, PHONE)) <= PHONE, f"{width} pixels on a phone of {PHONE}"
        for scheme, name in ((LIGHT, "light"), (DARK, "dark")):
            path = kept / f"status-{name}.png"
            console = screenshot(page, path, scheme)
            blocked = re.findall(r".*(?:Refused to|violates the following|Content Security Policy).*", console)
            assert not blocked, blocked
            light = brightness(path) > 128
            assert light == (scheme == LIGHT), f"{name} is {brightness(path)} bright"
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=10) == 0
        print("Chromium shows the status page without script, light and dark, and blocks nothing; 390 pixels are enough")


main()
