"""A real Prometheus scrapes the demo, and PromQL must return the simulator's numbers, exactly; an independent
parser must read the same from every format.

Usage: end_to_end.py BINARY
"""

import contextlib
import http.server
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from servers import Prometheus

PATIENCE = 60
KILOBYTE = 1024
GIGABYTE = 1024**3
BYTES = {
    "koodrive_space_capacity_bytes": ("totalCapacity", KILOBYTE),
    "koodrive_space_used_bytes": ("totalUsed", KILOBYTE),
    "koodrive_space_allocated_bytes": ("totalAllocation", KILOBYTE),
    "koodrive_space_quota_bytes": ("quota", GIGABYTE),
}


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FORMATS = {
    "text/plain; version=0.0.4; charset=utf-8": parse_text,
    "text/plain; version=1.0.0; charset=utf-8": parse_text,
    OPENMETRICS: parse_openmetrics,
}


def get(url, accept="*/*"):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


class Relay(http.server.BaseHTTPRequestHandler):
    """Hands Prometheus' scrapes on as they are, and notes in which format they were answered."""

    metrics, content_types = None, set()

    def do_GET(self):
        request = urllib.request.Request(self.metrics, headers={"Accept": self.headers["Accept"]})
        with urllib.request.urlopen(request, timeout=10) as answer:
            body, content_type = answer.read(), answer.headers["Content-Type"]
        self.content_types.add(content_type)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def parsed(metrics, content_type):
    """The accounts' samples, as an independent parser reads them from one format."""
    families = FORMATS[content_type](get(metrics, accept=content_type))
    samples = {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
    # An age is another one each time.
    others = ("koodrive_exporter_", "process_", "koodrive_poll_last_success_age_seconds")
    return {key: value for key, value in samples.items() if not key[0].startswith(others)}


def check_formats(metrics):
    """All formats say the same, as soon as no poll ends between the requests."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        first, *others = (parsed(metrics, content_type) for content_type in FORMATS)
        if all(other == first for other in others):
            print(f"prometheus_client reads the same {len(first)} samples from {len(FORMATS)} formats")
            return
    sys.exit("the formats never agreed")


def expected_series(simulator):
    """What the simulator last sent to each account, as the series that it must become."""
    expected = {}
    for account in json.loads(get(simulator))["accounts"].values():
        alias, numbers = account["alias"], account["record"]["latest"]
        if numbers is None:
            return None
        for family, (field, factor) in BYTES.items():
            if field in numbers:
                expected[family, alias, None] = float(int(numbers[field]) * factor)
            if field in numbers and field != "quota":
                expected["koodrive_space_reported", alias, field] = float(numbers[field])
    return expected


def stored(prometheus):
    samples = prometheus.query('{__name__=~"koodrive_space_.*"}')
    key = lambda labels: (labels["__name__"], labels["account"], labels.get("field"))
    return {key(sample["metric"]): float(sample["value"][1]) for sample in samples}


def wait_for_equality(simulator, prometheus):
    """The numbers move: they are compared while the simulator sends nothing new in between."""
    deadline = time.monotonic() + PATIENCE
    before = found = None
    while time.monotonic() < deadline:
        before = expected_series(simulator)
        try:
            found = stored(prometheus)
        except OSError:
            found = None
        if before and found == before == expected_series(simulator):
            return found
        time.sleep(0.2)
    sys.exit(f"Prometheus never agreed with the simulator:\n{before}\n{found}")


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        demo = subprocess.Popen(
            [binary, "demo", "--web.listen-address", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        try:
            urls = [demo.stdout.readline().split()[-1] for _ in range(3)]
            metrics, simulator = urls[1], urls[2]
            check_formats(metrics)
            Relay.metrics = metrics
            relay = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
            threading.Thread(target=relay.serve_forever, daemon=True).start()
            target = f"127.0.0.1:{relay.server_port}"
            config = pathlib.Path(folder, "prometheus.yml")
            config.write_text(
                "global: { scrape_interval: 1s }\n"
                f"scrape_configs: [{{ job_name: koodrive, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
            )
            prometheus = stack.enter_context(Prometheus(config, f"{folder}/data"))
            found = wait_for_equality(simulator, prometheus)
            print(f"PromQL returned {len(found)} koodrive_space_* series, each equal to the simulator's number")
            assert {alias for _, alias, _ in found} == {"production", "finance", "archive"}
            assert set(BYTES) <= {family for family, _, _ in found}
            assert [sample["value"][1] for sample in prometheus.query("up")] == ["1"]
            assert len(prometheus.query("koodrive_up == 1")) == 3
            assert Relay.content_types == {OPENMETRICS}, Relay.content_types
            print(f"Prometheus was answered in {OPENMETRICS}")
            lint = subprocess.run(["promtool", "check", "metrics"], input=get(metrics), capture_output=True, text=True)
            assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", ""), lint
            print("promtool check metrics has nothing to say")
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(timeout=5) == 0
            print("SIGTERM ends the exporter with exit code 0")
        finally:
            demo.kill()
            demo.wait()


main()
