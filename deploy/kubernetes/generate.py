"""Writes base/prometheusrule.yaml: the rules of deploy/prometheus as the Prometheus operator takes them.

Usage: generate.py [--check]     # with --check, only tells whether it is what this program would write
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
PATH = HERE / "base" / "prometheusrule.yaml"
HEAD = """\
# Written by generate.py from deploy/prometheus.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: koodrive-exporter
  labels:
    app.kubernetes.io/name: koodrive-exporter
spec:
  groups:
"""


def written():
    text = HEAD
    for name in ("koodrive.rules.yml", "koodrive.alerts.yml"):
        _, groups = (HERE.parent / "prometheus" / name).read_text().split("groups:\n", 1)
        text += "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return text


if sys.argv[1:] == ["--check"]:
    if PATH.read_text() != written():
        sys.exit(f"{PATH} is not what {__file__} writes: run it")
else:
    PATH.write_text(written())
