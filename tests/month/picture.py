"""Draws the Grafana dashboard from the month, as a picture for the README."""

import json
import pathlib
import subprocess
import sys
import tempfile

from accounts import HOUR, STEP, at
from exporter import START
from prometheus import lines

GRAFANA = pathlib.Path(__file__).parents[2] / "deploy" / "grafana"
END = at(25, 10)
OPENED = ["Account order"]
# Down to the row of further panels that only some accounts fill.
HEIGHT = 1794


def fail_at_end(accounts):
    """Lets those accounts fail at the end of the picture, too, that have failed for an hour or more before."""
    for one in accounts:
        if one.name == "token":
            one.token_expires = END - HOUR, END + HOUR
        elif one.name == "rate-limited":
            one.limited = END - 3 * HOUR, END + HOUR


def draw(prometheus, episodes, picture):
    sys.path.append(str(GRAFANA))
    from render import WIDTH, render

    prometheus.write(
        lines("ALERTS", one.labels | {"alertstate": "firing"}, [(step, 1) for step in range(one.begin, one.end)])
        for one in episodes
    )
    dashboard = json.loads((GRAFANA / "dashboards" / "koodrive.json").read_text())
    page, _ = render(prometheus.url, START + END * STEP, dashboard, OPENED)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "dashboard.html")
        path.write_text(page)
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}", f"--window-size={WIDTH},{HEIGHT}", path.as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
