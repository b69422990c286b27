"""Prometheus 3 with the features that read more of an exposition: when counters began, and what unit a family has.

Usage: features.py BINARY
"""

import pathlib
import re
import subprocess
import sys
import tempfile

from servers import Prometheus, free_port, wait_until

FEATURES = "--enable-feature=created-timestamp-zero-ingestion,type-and-unit-labels"


def check_units(prometheus):
    """Each family has its own unit, and none that of the family before."""
    shown = prometheus.query('count by (__name__, __unit__) ({__name__=~"(koodrive|process)_.+"})')
    for series in shown:
        name, unit = series["metric"]["__name__"], series["metric"].get("__unit__", "")
        family = re.sub("_(total|bucket|count|sum)$", "", name)
        own = next((unit for unit in ("seconds", "bytes") if family.endswith(f"_{unit}")), "")
        assert unit == own, f"{name} has the unit {unit!r}"
    print(f"{len(shown)} names have the unit that they end in, or none")


def check_created(prometheus):
    """A counter begins with 0 when the exporter started, though polls came before the first scrape."""
    series = prometheus.query("koodrive_polls_total[10m]")
    assert series and all(float(each["values"][0][1]) == 0 < float(each["values"][1][1]) for each in series), series
    assert not prometheus.query('{__name__=~".+_created"}'), "it is stored as a series"
    print(f"{len(series)} counters of polls begin with 0")


def main(binary, folder):
    address = f"127.0.0.1:{free_port()}"
    demo = subprocess.Popen([binary, "demo", f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config = folder / "prometheus.yml"
    target = f"static_configs: [{{ targets: ['{address}'] }}]"
    config.write_text(f"global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: koodrive, {target} }}]\n")
    try:
        with Prometheus(config, folder / "data", FEATURES) as prometheus:
            wait_until("two scrapes", lambda: prometheus.query("count_over_time(koodrive_polls_total[10m]) > 2"))
            check_units(prometheus)
            check_created(prometheus)
    finally:
        demo.kill()
        demo.wait()


with tempfile.TemporaryDirectory() as temporary:
    main(sys.argv[1], pathlib.Path(temporary))
