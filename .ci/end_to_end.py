"""A real Prometheus scrapes the demo, and PromQL must return the simulator's numbers, exactly.

Usage: end_to_end.py BINARY
"""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

PATIENCE = 60
KILOBYTE = 1024
GIGABYTE = 1024**3
BYTES = {
    "koodrive_space_capacity_bytes": ("totalCapacity", KILOBYTE),
    "koodrive_space_used_bytes": ("totalUsed", KILOBYTE),
    "koodrive_space_allocated_bytes": ("totalAllocation", KILOBYTE),
    "koodrive_space_quota_bytes": ("quota", GIGABYTE),
}


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def told(simulator):
    """What the simulator last told each account, as the series that must come of it."""
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


def query(prometheus, promql):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
    return json.loads(get(url))["data"]["result"]


def stored(prometheus):
    samples = query(prometheus, '{__name__=~"koodrive_space_.*"}')
    key = lambda labels: (labels["__name__"], labels["account"], labels.get("field"))
    return {key(sample["metric"]): float(sample["value"][1]) for sample in samples}


def wait_for_equality(simulator, prometheus):
    """The numbers move: they are compared while the simulator tells nothing new in between."""
    deadline = time.monotonic() + PATIENCE
    before = found = None
    while time.monotonic() < deadline:
        before = told(simulator)
        try:
            found = stored(prometheus)
        except OSError:
            found = None
        if before and found == before == told(simulator):
            return found
        time.sleep(0.2)
    sys.exit(f"Prometheus never agreed with the simulator:\n{before}\n{found}")


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.Popen(
            [binary, "demo", "--web.listen-address", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        server = None
        try:
            urls = [demo.stdout.readline().split()[-1] for _ in range(3)]
            metrics, simulator = urls[1], urls[2]
            target = urllib.parse.urlsplit(metrics).netloc
            config = pathlib.Path(folder, "prometheus.yml")
            config.write_text(
                "global: { scrape_interval: 1s }\n"
                f"scrape_configs: [{{ job_name: koodrive, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
            )
            port = free_port()
            server = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ]
            )
            prometheus = f"http://127.0.0.1:{port}"
            found = wait_for_equality(simulator, prometheus)
            print(f"PromQL returned {len(found)} koodrive_space_* series, each equal to the simulator's number")
            assert {alias for _, alias, _ in found} == {"production", "finance", "archive"}
            assert set(BYTES) <= {family for family, _, _ in found}
            assert [sample["value"][1] for sample in query(prometheus, "up")] == ["1"]
            assert len(query(prometheus, "koodrive_up == 1")) == 3
            lint = subprocess.run(["promtool", "check", "metrics"], input=get(metrics), capture_output=True, text=True)
            assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", ""), lint
            print("promtool check metrics has nothing to say")
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(timeout=5) == 0
            print("SIGTERM ends the exporter with exit code 0")
        finally:
            for process in (demo, server):
                if process:
                    process.kill()
                    process.wait()


main()
