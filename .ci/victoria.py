"""The monitoring pack with VictoriaMetrics: vmagent scrapes the demo, vmalert evaluates the rules.

No rule may fail, and the alerts of an outage must fire and end. Lengths of time are shortened as in alerts.py.

Usage: victoria.py BINARY FOLDER     # of victoria-metrics, vmagent and vmalert
"""

import pathlib
import subprocess
import sys
import tempfile

from alerts import DEPLOY, Servers, shorten
from servers import answers, free_port, get_json, wait_until


def start(servers, name, *flags):
    address = f"127.0.0.1:{free_port()}"
    command = [programs / name, f"-httpListenAddr={address}", "-loggerLevel=FATAL", *flags]
    servers.processes[name] = subprocess.Popen(command)
    url = f"http://{address}"
    wait_until(f"{name} answers", lambda: answers(f"{url}/health"))
    return url


def alerts(vmalert):
    found = get_json(f"{vmalert}/api/v1/alerts")["data"]["alerts"]
    return {(alert["labels"]["alertname"], alert["labels"].get("account")) for alert in found if alert["state"] == "firing"}


def main(servers, folder):
    for path in (DEPLOY / "prometheus").glob("*.yml"):
        text = shorten(path.read_text().replace("localhost:10710", servers.exporter))
        (folder / path.name).write_text(text)
    database = start(servers, "victoria-metrics", f"-storageDataPath={folder}/data", "-search.latencyOffset=0s")
    start(
        servers,
        "vmagent",
        f"-remoteWrite.url={database}/api/v1/write",
        f"-remoteWrite.tmpDataPath={folder}/queue",
        f"-promscrape.config={folder}/prometheus.yml",
        # prometheus.yml has sections that are not vmagent's.
        "-promscrape.config.strictParse=false",
    )
    rules = [f"-rule={folder}/koodrive.{name}.yml" for name in ("rules", "alerts", "overrides")]
    urls = [f"-datasource.url={database}", f"-remoteWrite.url={database}", f"-remoteRead.url={database}"]
    vmalert = start(servers, "vmalert", *rules, *urls, "-notifier.blackhole", "-evaluationInterval=1s", "-rule.evalDelay=0s", "-remoteWrite.flushInterval=100ms")
    wait_until("the full account alerts", lambda: ("KooDriveSpaceUsageHigh", "archive") in alerts(vmalert))
    outage = {("KooDrivePollFailing", "finance"), ("KooDriveDataStale", "finance")}
    servers.order("finance", fault={"kind": "status", "status": 500})
    wait_until("the outage alerts", lambda: outage <= alerts(vmalert))
    servers.order("finance")
    wait_until("its alerts end", lambda: not outage & alerts(vmalert))
    assert ("KooDriveSpaceUsageHigh", "archive") in alerts(vmalert)
    rules = [rule for group in get_json(f"{vmalert}/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    bad = [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")]
    assert not bad, bad
    print(f"vmalert evaluates {len(rules)} rules, none in error; the alerts of an outage came and ended")


programs = pathlib.Path(sys.argv[2])
with tempfile.TemporaryDirectory() as temporary, Servers(sys.argv[1], temporary) as all_servers:
    main(all_servers, pathlib.Path(temporary))
