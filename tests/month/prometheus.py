"""A real Prometheus that holds the month, and answers what rules ask of each step of it.

Blocks are written by promtool and read by a Prometheus that scrapes nothing. Its look-back is shorter than a step: a
series that is absent at a step is absent there, as after a staleness marker.
"""

import concurrent.futures
import json
import pathlib
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from accounts import SHOWN, STEP
from exporter import START

NAME = re.compile(r"[a-zA-Z_:][\w:]*")
THREADS = 2
PATIENCE = 60


def text(labels):
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}" if labels else ""


def lines(name, labels, samples):
    """Samples, as (step, value), in OpenMetrics."""
    head = name + text(labels)
    return "".join([f"{head} {value} {START + step * STEP}\n" for step, value in samples])


class Prometheus:
    def __init__(self, folder):
        self.folder, self.server = pathlib.Path(folder), None
        self.data = self.folder / "data"
        self.data.mkdir()
        (self.folder / "prometheus.yml").write_text("{}\n")

    def write(self, parts):
        """Adds parts of OpenMetrics text as a block. Prometheus reads it when it starts."""
        self.stop()
        path = self.folder / "samples.om"
        with path.open("w") as file:
            file.writelines(parts)
            file.write("# EOF\n")
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "--quiet", "openmetrics", "--max-block-duration=1458h", path, self.data],
            check=True,
            timeout=600,
        )
        path.unlink()
        self.start()

    def start(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.log = (self.folder / "log").open("w")
        self.server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.data}",
                "--storage.tsdb.retention.time=100y",
                f"--query.lookback-delta={STEP - 1}s",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=PATIENCE).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"Prometheus did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self):
        if self.server:
            self.server.terminate()
            self.server.wait(PATIENCE)
            self.log.close()
        self.server = None

    def query(self, expression):
        """Each series of the result as (labels, [(step, value)]), with values as Prometheus writes them."""
        form = {"query": expression, "start": START, "end": START + (SHOWN - 1) * STEP, "step": STEP}
        request = urllib.request.Request(f"{self.url}/api/v1/query_range", urllib.parse.urlencode(form).encode())
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.read().decode()}: {expression}") from error
        return [
            (one["metric"], [((int(second) - START) // STEP, value) for second, value in one["values"]]) for one in result
        ]

    def record(self, rules):
        """Evaluates recording rules in the order in which they read each other."""
        level = {}
        for rule in rules:
            read = [level[name] for name in NAME.findall(rule["expr"]) if name in level]
            level[rule["record"]] = 1 + max(read, default=0)
        for current in sorted(set(level.values())):
            now = [rule for rule in rules if level[rule["record"]] == current]
            self.write(list(self.parallel(self.recorded, now)))

    def recorded(self, rule):
        parts = []
        for labels, samples in self.query(rule["expr"]):
            labels = {name: value for name, value in labels.items() if name != "__name__"} | rule.get("labels", {})
            parts.append(lines(rule["record"], labels, samples))
        return "".join(parts)

    @staticmethod
    def parallel(work, items):
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(work, items)
