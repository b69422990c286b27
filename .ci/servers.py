"""What the checks with real servers share."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

PATIENCE = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get_json(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def answers(url):
    """Whether there is a page."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status == 200


def wait_until(what, condition):
    """What `condition` gives as soon as it is something; a server that does not answer yet gives nothing."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        time.sleep(0.2)
    sys.exit(f"it never came to this: {what}")


class Prometheus:
    """A real one, with this configuration, for as long as the context lasts."""

    def __init__(self, config, data, *flags):
        self.address = f"127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={pathlib.Path(data)}",
                f"--web.listen-address={self.address}",
                "--log.level=error",
                *flags,
            ]
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def query(self, expr):
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        return get_json(url)["data"]["result"]

    def rules(self):
        groups = get_json(f"http://{self.address}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]
