"""The monitoring pack in the real servers: Prometheus and Alertmanager run its files against the demo.

No rule may fail, every query of the dashboard must return data, and alerts must arrive at a webhook through
Alertmanager when the simulator is driven into a state, and end after the repair. Addresses are put into the files, and
lengths of time shortened; all else is as it is shipped.

Usage: alerts.py BINARY
"""

import collections
import http.server
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

from servers import Prometheus, free_port, get_json, wait_until

DEPLOY = pathlib.Path(__file__).parent.parent / "deploy"
TERABYTE = 1 << 30  # in kilobytes, as the API counts


def put(url, order):
    request = urllib.request.Request(url, data=json.dumps(order).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass


class Webhook(http.server.BaseHTTPRequestHandler):
    """What Alertmanager sends, by receiver: the latest status of each alert, and all that ever fired."""

    status, arrived = {}, collections.defaultdict(set)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in message["alerts"]:
            labels = alert["labels"]
            key = labels["alertname"], labels["severity"], labels.get("account")
            self.status[key] = alert["status"]
            if alert["status"] == "firing":
                self.arrived[self.path.strip("/")].add(key)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Servers:
    """The demo, Prometheus and Alertmanager, and the webhook at the end."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.processes = binary, pathlib.Path(folder), {}
        self.exporter, self.alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.webhook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
        threading.Thread(target=self.webhook.serve_forever, daemon=True).start()

    def __enter__(self):
        self.start_demo()
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def start_demo(self):
        command = [self.binary, "demo", f"--web.listen-address={self.exporter}"]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes["demo"] = demo
        self.simulator = [demo.stdout.readline().split()[-1] for _ in range(3)][2]
        self.users = {account["alias"]: user for user, account in get_json(self.simulator)["accounts"].items()}

    def stop_demo(self):
        demo = self.processes.pop("demo")
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=10) == 0

    def start_prometheus(self, change=lambda text: text):
        """With the shipped files, changed by no more than addresses and `change`."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        for path in (DEPLOY / "prometheus").glob("*.yml"):
            text = path.read_text().replace("localhost:10710", self.exporter)
            (folder / path.name).write_text(change(text.replace("localhost:9093", self.alertmanager)))
        return Prometheus(folder / "prometheus.yml", folder / "data")

    def start_alertmanager(self):
        text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
        for receiver in ("pager", "tickets"):
            url = f"http://127.0.0.1:{self.webhook.server_port}/{receiver}"
            hook = f"  - name: {receiver}\n    webhook_configs: [{{ url: '{url}', send_resolved: true }}]\n"
            text = text.replace(f"  - name: {receiver}\n", hook)
        text = text.replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 1s")
        path = self.folder / "alertmanager.yml"
        path.write_text(text)
        self.processes["alertmanager"] = subprocess.Popen(
            [
                "prometheus-alertmanager",
                f"--config.file={path}",
                f"--storage.path={self.folder}/alertmanager",
                f"--web.listen-address={self.alertmanager}",
                "--cluster.listen-address=",
                "--log.level=error",
                *utf8_strict_mode("prometheus-alertmanager"),
            ]
        )

    def order(self, account, **order):
        put(f"{self.simulator}/accounts/{self.users[account]}", order)


def utf8_strict_mode(program):
    """Matchers must be good for Alertmanager's newer parser, where it is there."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True)
    return ["--enable-feature=utf8-strict-mode"] if "utf8-strict-mode" in text.stdout + text.stderr else []


def shorten(text):
    """Minutes become a second, ranges some seconds, and each poll's interval stays."""
    text = re.sub(r"\bfor: \d+[mh]", "for: 1s", text)
    text = re.sub(r"keep_firing_for: \d+m", "keep_firing_for: 1s", text)
    text = re.sub(r"\[\d+[mhd]\]", "[20s]", text)
    return re.sub(r"offset (\d+)d", lambda days: f"offset {5 * int(days[1])}s", text).replace("_interval: 30s", "_interval: 1s")


def no_rule_fails(prometheus):
    evaluated = lambda: (rules := prometheus.rules()) and all(rule["health"] != "unknown" for rule in rules) and rules
    rules = wait_until("each rule was evaluated", evaluated)
    bad = [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
    assert not bad, bad
    return len(rules)


NEEDS_TLS = {"Certificate expires in"}


def concrete(expr):
    """A query of the dashboard with all accounts, jobs and exporters chosen."""
    return re.sub(r'=~"[^"]*\$\w+[^"]*"', '=~".*"', expr.replace("$__rate_interval", "20s"))


def dashboard_queries():
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "koodrive.json").read_text())
    panels = [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", []))]
    for panel in panels:
        for target in panel.get("targets", []):
            if panel["title"] not in NEEDS_TLS:
                yield panel["title"], concrete(target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], concrete(annotation["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            yield f"${variable['name']}", f'count by ({label}) ({metric.replace("$job", ".*")})'


def check_dashboard(prometheus):
    queries = list(dashboard_queries())
    for title, expr in queries:
        wait_until(f"{title} has data: {expr}", lambda: prometheus.query(expr))
    print(f"each of the dashboard's {len(queries)} queries returns data")


def fires(name, account, severity="warning", receiver="tickets"):
    key = (name, severity, account)
    wait_until(f"{key} arrives at {receiver}", lambda: key in Webhook.arrived[receiver])
    return key


# For each rule of alertmanager.yml: an alert, one that it holds back, and one that it does not.
INHIBITIONS = [
    ("ExporterDown critical scope=all", "DataStale critical account=a", None),
    ("ExporterDown critical scope=shard instance=x", "PollSlow warning instance=x", "PollSlow warning instance=y"),
    ("ExporterDown critical scope=all", "ExporterDown warning scope=replica instance=x", None),
    ("AccountsFailing critical scope=all", "CollectorFailing warning account=a", "SpaceFull critical account=a"),
    ("AccountsFailing critical scope=endpoint endpoint=a", "DataStale critical endpoint=a", "DataStale critical endpoint=b"),
    ("AccountsFailing critical scope=all", "AccountsFailing critical scope=endpoint endpoint=a", None),
    ("SpaceFull critical account=a", "SpaceAlmostFull critical account=a", "SpaceAlmostFull critical account=b"),
    ("SpaceUsageHigh warning account=a", "SpaceFillingUp info account=a", "SpaceFillingUp info account=b"),
    ("SpaceAlmostFull critical account=a", "SpaceUsageHigh warning account=a", "SpaceUsageHigh warning account=b"),
    ("AuthFailing critical account=a", "PollFailing warning account=a", "PollFailing warning account=b"),
    ("CertificateExpiry critical instance=x", "CertificateExpiry warning instance=x", "CertificateExpiry warning instance=y"),
]


def check_inhibitions(servers):
    """Alertmanager holds back what each of its rules says, and nothing else."""
    rules = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text().count("source_matchers:")
    assert rules == len(INHIBITIONS), f"there are {rules} rules"
    alerts, expected = [], {}
    for number, row in enumerate(INHIBITIONS):
        for role, words in zip(("source", "held", "other"), row):
            if words:
                name, severity, *labels = words.split()
                labels = dict(label.split("=") for label in labels) | {"job": f"rule-{number}", "role": role}
                alerts.append({"labels": {"alertname": f"KooDrive{name}", "severity": severity} | labels})
                expected[f"rule-{number}", role] = "suppressed" if role == "held" else "active"
    url = f"http://{servers.alertmanager}/api/v2/alerts"
    request = urllib.request.Request(url, json.dumps(alerts).encode(), {"Content-Type": "application/json"})
    wait_until("Alertmanager takes alerts", lambda: urllib.request.urlopen(request, timeout=10).close() is None)
    found = lambda: {(one["labels"]["job"], one["labels"]["role"]): one["status"]["state"] for one in get_json(url) if "role" in one["labels"]}
    wait_until(f"what is held back is {expected}", lambda: found() == expected)
    stale = [group for group in get_json(f"{url}/groups") if group["labels"].get("alertname") == "KooDriveDataStale"]
    assert any(len(group["alerts"]) == 2 for group in stale), "a notification for each account"
    print(f"{rules} inhibitions hold back what they should, and nothing else")


def drive(servers, prometheus):
    """Drives the simulator into states, and sees alerts come and go."""
    numbers = {"totalCapacity": TERABYTE, "totalUsed": TERABYTE // 2, "totalAllocation": TERABYTE // 2}
    full = numbers | {"totalUsed": TERABYTE // 100 * 99}
    fired = [fires("KooDriveSpaceUsageHigh", "archive")]
    servers.order("finance", fault={"kind": "status", "status": 500})
    fired.append(fires("KooDrivePollFailing", "finance"))
    check_dashboard(prometheus)
    fired.append(fires("KooDriveDataStale", "finance", "critical", "pager"))
    servers.order("production", numbers=full)
    fired.append(fires("KooDriveSpaceAlmostFull", "production", "critical", "pager"))
    servers.order("archive", numbers=numbers | {"totalAllocation": 2 * TERABYTE})
    fired += [fires("KooDriveOverAllocated", "archive"), fires("KooDriveCapacityDropped", "archive")]
    fired.append(fires("KooDriveUsageDroppedSharply", "archive"))
    put(f"{servers.simulator}/clock", {"seconds_ahead": 200})
    fired += [fires("KooDriveClockSkew", account) for account in ("production", "archive")]
    put(f"{servers.simulator}/clock", {"seconds_ahead": 0})
    servers.order("finance", token="another")
    fired.append(fires("KooDriveAuthFailing", "finance", "critical", "pager"))
    seats = {"spaceCapacity": 512, "spaceUsed": 1, "userCount": 99, "userMaxCount": 100}
    servers.order("finance", endpoint="usage", numbers=seats, token="simulated-token-00001")
    fired.append(fires("KooDriveSeatsAlmostUsed", "finance"))
    servers.order("finance", endpoint="subscription", numbers={"status": 1})
    fired.append(fires("KooDriveServiceFrozen", "finance", "critical", "pager"))
    servers.order("finance", endpoint="usage", units={"totalUsed": "MB"})
    fired.append(fires("KooDriveUnitsDoubtful", "finance"))
    for endpoint in ("usage", "subscription"):
        servers.order("finance", endpoint=endpoint)
    servers.order("production", numbers=numbers | {"totalUsed": TERABYTE})
    fired.append(fires("KooDriveSpaceFull", "production", "critical", "pager"))
    servers.order("finance")
    for account in ("production", "archive"):
        servers.order(account, numbers=numbers)
    wait_until("all of them end", lambda: all(Webhook.status.get(key) == "resolved" for key in fired))
    assert ("KooDriveSpaceUsageHigh", "warning", "production") not in Webhook.arrived["tickets"], "AlmostFull stands for it"
    print(f"{len(fired)} alerts arrived through Alertmanager, and ended after the repair:")
    print("  " + ", ".join(f"{name}({account})" for name, _, account in fired))
    servers.stop_demo()
    down = fires("KooDriveExporterDown", None, "critical", "pager")
    servers.start_demo()
    wait_until("ExporterDown ends", lambda: Webhook.status.get(down) == "resolved")
    print("KooDriveExporterDown arrived when the exporter was stopped, and ended when it was back")


def main():
    with tempfile.TemporaryDirectory() as folder, Servers(sys.argv[1], folder) as servers:
        with servers.start_prometheus() as prometheus:
            print(f"Prometheus evaluates the {no_rule_fails(prometheus)} rules as they are shipped, none in error")
        servers.start_alertmanager()
        with servers.start_prometheus(shorten) as prometheus:
            drive(servers, prometheus)
            no_rule_fails(prometheus)
        # Last: what it sends arrives at the webhook, too.
        check_inhibitions(servers)


if __name__ == "__main__":
    main()
