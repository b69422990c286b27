"""Whether the monitoring pack under deploy/ hangs together, without any server.

Rules are linted and tested by promtool, routes by amtool; each alert has a test, a runbook and all its annotations;
the dashboard is what its generator writes, loses nothing in Grafana's own classes, and has no overlapping panels.
"""

import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import _gojsonnet
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

DEPLOY = pathlib.Path(__file__).parent.parent / "deploy"
RULES = [DEPLOY / "prometheus" / f"koodrive.{name}.yml" for name in ("rules", "alerts", "overrides")]
TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def alerts():
    groups = yaml.safe_load(RULES[1].read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_rules():
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda path: run("promtool", "test", "rules", path), TESTS))
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    shown = {
        (test["alertname"], alert["exp_labels"]["severity"])
        for group in tests
        for test in group.get("alert_rule_test", [])
        for alert in test["exp_alerts"]
    }
    silent = {name for group in tests if "not fire" in group["name"] for name in re.findall(r"KooDrive\w+", group["name"])}
    silent |= {
        test["alertname"] for group in tests for test in group.get("alert_rule_test", []) if not test["exp_alerts"]
    }
    expressions = set()
    for alert in alerts():
        name = alert["alert"]
        assert (name, alert["labels"]["severity"]) in shown, f"no test shows {name} firing as {alert['labels']}"
        assert name in silent, f"no test shows {name} not firing"
        assert set(alert["annotations"]) == ANNOTATIONS, f"{name} has other annotations"
        about_account = "account" in alert["annotations"]["dashboard_url"]
        named = "$labels.account" in alert["annotations"]["summary"] or "$labels.instance" in alert["annotations"]["summary"]
        assert named or not about_account, f"the summary of {name} does not name the account"
        assert alert["annotations"]["runbook_url"].endswith(f"/{name}.md"), f"{name} names another's runbook"
        holds = "1d" in alert["expr"] or "account:koodrive_space_full:days" in alert["expr"]
        assert name.startswith("KooDriveSpace") <= holds, f"{name} ends when its series vanish"
        expressions.add(alert["expr"])
    assert len(expressions) == len(alerts())
    table = (DEPLOY / "prometheus" / "README.md").read_text()
    documented = re.findall(r"^\| (KooDrive\w+) \| (\w+) \| (\d+[mh]) \|", table, re.MULTILINE)
    assert documented == [(alert["alert"], alert["labels"]["severity"], alert["for"]) for alert in alerts()]
    print(f"{len(alerts())} alerts are linted and tested by {len(tests)} cases")


def check_thresholds():
    """Their number in the alert, their table in the README, and the overrides' examples made active."""
    rules = yaml.safe_load(RULES[0].read_text())["groups"][0]["rules"][1:]
    names = [rule["record"].removeprefix("account:koodrive_threshold:") for rule in rules]
    missing = next(alert for alert in alerts() if alert["alert"] == "KooDriveThresholdMissing")
    assert missing["expr"].count(f"== {len(names)})") == 1 and f" {len(names)} " in missing["annotations"]["description"]
    documented = re.findall(r"^\| `(\w+)` \| (\S+) \|", (DEPLOY / "prometheus" / "README.md").read_text(), re.MULTILINE)
    defaults = [re.search(r"or account:koodrive_known:info(?: \* (\S+))?$", rule["expr"])[1] or "1" for rule in rules]
    assert documented == list(zip(names, defaults)), documented
    for rule in rules:
        assert rule["expr"].count(f"(koodrive:override:{rule['record'].split(':')[2]})") == 1, rule
    text = (DEPLOY / "prometheus" / "koodrive.overrides.yml").read_text()
    active = re.sub(r"(?m)^      # (- |  )", r"      \1", text)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "koodrive.overrides.yml")
        path.write_text(active)
        run("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    examples = yaml.safe_load(active)["groups"][0]["rules"]
    assert len(examples) == 3 and all(rule["record"].removeprefix("koodrive:override:") in names for rule in examples)
    print(f"{len(names)} thresholds have a default, an override and a line in the table")


def check_mixin():
    """As it stands it gives the files' own rules and dashboard; its parameters give good rules."""
    mixin = f"(import '{DEPLOY}/mixin/mixin.libsonnet')"
    fields = "{ rules: m.prometheusRules, alerts: m.prometheusAlerts, dashboard: m.grafanaDashboards['koodrive.json'] }"
    evaluate = lambda config: json.loads(_gojsonnet.evaluate_snippet("mixin", f"local m = {mixin} + {{ _config+:: {config} }}; {fields}"))
    plain = evaluate("{}")
    assert plain["rules"] == yaml.safe_load(RULES[0].read_text()) and plain["alerts"] == yaml.safe_load(RULES[1].read_text())
    assert plain["dashboard"] == json.loads((DEPLOY / "grafana" / "dashboards" / "koodrive.json").read_text())
    override = "{ job: 'x/kd', account: 'archive', threshold: 'space_full_ratio', value: '+Inf' }"
    other = evaluate(
        "{ jobRegex: 'x/kd', runbookUrl: 'https://r.example/k', grafanaUrl: 'https://g.example',"
        f" thresholds: {{ space_full_ratio: 0.99, space_usage_high_ratio: 0.9, space_free_bytes: 1099511627776 }}, overrides: [{override}] }}"
    )
    text = json.dumps(other)
    assert "koodrive|koodrive-exporter" not in text and "runbooks.example" not in text and "grafana.example" not in text
    changed = {rule["record"]: rule["expr"] for group in other["rules"]["groups"] for rule in group["rules"]}
    assert changed["account:koodrive_threshold:space_full_ratio"].endswith(" or account:koodrive_known:info * 0.99")
    assert changed["account:koodrive_threshold:space_free_bytes"].endswith(" or account:koodrive_known:info * 1099511627776")
    for misspelt in ("thresholds: { space_ful_ratio: 0.99 }", "overrides: [{ job: 'k', account: 'a', threshold: 'space', value: 1 }]"):
        try:
            evaluate(f"{{ {misspelt} }}")
        except RuntimeError as error:
            assert "there is no threshold" in str(error), error
        else:
            sys.exit(f"the mixin takes {misspelt}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rules", "alerts"):
            path = pathlib.Path(folder, f"{name}.yml")
            path.write_text(yaml.safe_dump(other[name], sort_keys=False))
            run("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    print("the mixin gives the same rules and dashboard, and good ones with other parameters")


def check_runbooks():
    names = {alert["alert"] for alert in alerts()}
    pages = {page.stem: page.read_text() for page in (DEPLOY / "runbooks").glob("KooDrive*.md")}
    assert set(pages) == names, f"alerts and runbooks differ: {set(pages) ^ names}"
    index = (DEPLOY / "runbooks" / "README.md").read_text()
    for name, text in pages.items():
        sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
        # What a wrong clock does to other alerts is the first question about it.
        first = ["Impact", "Meaning"] if name == "KooDriveClockSkew" else ["Meaning", "Impact"]
        assert sections == [*first, "Diagnosis", "Mitigation"], f"{name} has {sections}"
        assert "koodrive.alerts.yml" in text and f"({name}.md)" in index, f"{name} is not linked both ways"
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (DEPLOY / "runbooks" / link).exists(), f"{name} links to {link}, which is not there"
    print(f"{len(pages)} runbooks are linked both ways")


def check_alertmanager():
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    newer = "--enable-feature" in run("amtool", "--help")
    run("amtool", *(["--enable-feature=utf8-strict-mode"] if newer else []), "check-config", config)
    for labels, receiver in (
        (["alertname=KooDriveSpaceAlmostFull", "severity=critical", "account=finance"], "pager"),
        (["alertname=KooDriveSpaceUsageHigh", "severity=warning", "account=finance"], "tickets"),
        (["alertname=KooDriveSpaceFillingUp", "severity=info", "account=finance"], "tickets"),
        (["alertname=KooDriveAccountsFailing", "severity=critical", "scope=endpoint"], "pager"),
        (["alertname=KooDriveExporterDown", "severity=critical", "scope=all"], "pager"),
        (["alertname=KooDriveExporterDown", "severity=warning", "scope=replica"], "tickets"),
        (["alertname=NodeDown", "severity=critical"], "tickets"),
    ):
        run("amtool", "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}", *labels)
    print("Alertmanager's configuration is good, and routes by severity")


def check_prometheus():
    """The configuration as it is, and with each of its variants made active."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    commented = re.findall(r"(?:^    # .*\n)+", text, re.MULTILINE)
    assert len(commented) == 3
    with tempfile.TemporaryDirectory() as folder:
        for rules in RULES:
            pathlib.Path(folder, rules.name).write_text(rules.read_text())
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2", "-keyout", f"{folder}/prometheus.key", "-out", f"{folder}/prometheus.crt")
        pathlib.Path(folder, "koodrive-ca.crt").write_text(pathlib.Path(folder, "prometheus.crt").read_text())
        pathlib.Path(folder, "koodrive-password").write_text("x")
        for variant in [None, *commented]:
            _, *lines = (variant or "\n").splitlines()
            active = "\n".join(line.replace("    # ", "    ") for line in lines)
            config = pathlib.Path(folder, "prometheus.yml")
            config.write_text(text.replace(variant, active + "\n") if variant else text)
            assert variant is None or len(yaml.safe_load(config.read_text())["scrape_configs"][0]) > 2
            run("promtool", "check", "config", config)
    print("Prometheus' configuration is good, and so is each of its variants")


def check_dashboard():
    run(sys.executable, DEPLOY / "grafana" / "generate.py", "--check")
    written = json.loads((DEPLOY / "grafana" / "dashboards" / "koodrive.json").read_text())
    register_default_plugins()
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))
    lost = list(differences(written, again))
    assert not lost, f"Grafana's classes read the dashboard otherwise: {lost[:10]}"
    metrics = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    read = set(re.findall(r"(?<![\w:/-])koodrive_\w+", json.dumps(written)))
    unknown = {name for name in read if f"`{name.removesuffix('_bucket')}`" not in metrics}
    assert not unknown, f"the dashboard reads metrics that do not exist: {unknown}"
    panels = [inner for panel in written["panels"] for inner in (panel, *panel.get("panels", []))]
    # The panels of a closed row lie below it when it is opened, where nothing else counts.
    for beside in (written["panels"], *(panel["panels"] for panel in written["panels"] if panel.get("panels"))):
        check_places(beside)
    for panel in panels:
        assert panel.get("title"), panel
        if panel["type"] != "row":
            field = panel["fieldConfig"]["defaults"]
            assert panel["description"] and field["unit"] and field["thresholds"]["steps"], panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    print(f"the dashboard's {len(panels)} panels and rows are well-formed and lie beside each other")


def check_places(panels):
    places = {}
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                other = places.setdefault((x, y), panel)
                assert other is panel, f"{panel['title']} lies over {other['title']}"


def differences(ours, theirs, path="$"):
    """Where Grafana's classes have lost or changed something that we wrote. Defaults that they add are no loss."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{path}.{key} is lost"
            else:
                yield from differences(value, theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path} was {ours!r} and is {theirs!r}"


def check_compose():
    path = DEPLOY / "compose" / "compose.yaml"
    services = yaml.safe_load(path.read_text())["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            assert (path.parent / volume.split(":")[0]).is_dir(), f"{name} mounts {volume}, which is not there"
        image = service.get("image", "exporter:built")
        assert re.fullmatch(r"[^:]+:(v?\d+\.\d+\.\d+|built)", image), f"{image} is not pinned"
    build = services["exporter"]["build"]
    assert (path.parent / build["context"] / build["dockerfile"]).is_file()
    print(f"the compose stack's {len(services)} services are pinned, and all that they mount is there")


for check in (check_rules, check_thresholds, check_mixin, check_runbooks, check_alertmanager, check_prometheus, check_dashboard, check_compose):
    check()
