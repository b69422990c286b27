"""Whether the chart under deploy/helm is well-formed, by helm, the schemas of Kubernetes and of the Prometheus Operator,
and the exporter itself.

Usage: helm.py HELM NODE_FOLDER BINARY     # the folder has the packages that custom_resources.mjs needs
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import yaml

import helm_pod

HELM, NODE_FOLDER, BINARY = sys.argv[1:]
ROOT = pathlib.Path(__file__).parent.parent
CHART = ROOT / "deploy" / "helm" / "koodrive-exporter"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
OLDEST = "1.25.0"
# Keys of values.schema.json alone: Helm passes them from a parent chart.
FROM_PARENT = {"enabled"}
# Values whose keys need no default.
OPTIONAL_KEYS = {"config", "webConfig", "resources", "startupProbe", "livenessProbe", "readinessProbe"}
# Keys of the configuration that the chart sets, and those that only a secret file may have.
SET_BY_CHART = {"shard", "auto_reload", "web.listen_addresses", "web.systemd_socket"}
SECRETS = {"accounts.<alias>.auth.token", "accounts.<alias>.auth.app_secret"}

# Values beside ci/default-values.yaml, and what the refusal says.
REFUSED = {
    "shard: 3": "additional properties 'shard' not allowed",
    "image: {name: x}": "additional properties 'name' not allowed",
    "serviceMonitor: {enable: true}": "additional properties 'enable' not allowed",
    "livenessProbe: {path: /}": "additional properties 'path' not allowed",
    "replicaCount: '2'": "got string, want integer",
    "extraArgs: --log.level=debug": "got string, want array",
    "networkPolicy: {enabled: 'true'}": "got string, want boolean",
    "podLabels: {team: 7}": "got number, want string",
    "image: {digest: latest}": "does not match pattern",
    "image: {pullPolicy: Sometimes}": "value must be one of",
    "serviceMonitor: {interval: 30}": "got number, want string",
    "service: {port: 70000}": "maximum: got 70,000",
    "shards: 0": "minimum: got 0",
    "config: {accounts: {production: {user_id: 1505084218764547200}}}": "got number, want string",
    "config: {accounts: {production: {auth: {app_secret: x}}}}": "additional properties 'app_secret' not allowed",
    "config: {shard: {count: 3}}": "additional properties 'shard' not allowed",
    "config: {web: {listen_addresses: [':1']}}": "additional properties 'listen_addresses' not allowed",
    "config: {accounts: null}": "config.accounts is empty",
    "{shards: 2, replicaCount: 2}": "shards and replicaCount are both above 1",
    "{serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}": "scrape the same pods twice",
    "{webConfig: {rate_limit: {}}, config: {web: {config_file: x}}}": "mutually exclusive",
    "prometheusRule: {thresholds: {space_full_ratio: high}}": "value must be '+Inf'",
    "prometheusRule: {enabled: true, accountThresholds: {a: {nothing: 1}}}": "has no threshold nothing",
}

# What ci/monitoring-values.yaml makes of thresholds. The last one keeps its default.
THRESHOLDS = [
    ("space_usage_high_ratio", "production", 0.8),
    ("space_usage_high_ratio", "finance", 0.7),
    ("space_usage_high_ratio", "archive", 0.9),
    ("usage_dropped_bytes", "finance", 5368709120),
    ("space_full_ratio", "archive", float("inf")),
    ("space_full_ratio", "finance", 1),
]


def run(*command, text=None, refused=False):
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=120)
    if bool(done.returncode) != refused:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stderr if refused else done.stdout


def template(chart, *values, text=None, refused=False):
    files = [argument for path in values for argument in ("--values", path)]
    return run(HELM, "template", "release", chart, "--namespace", "monitoring", *files, text=text, refused=refused)


class Loader(yaml.CSafeLoader):
    """PyYAML takes the last of two equal keys without a word, and a template may write a key twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


def documents(text):
    return [document for document in yaml.load_all(text, Loader) if document]


def check_rendering():
    """The resources for each file of values."""
    rendered = {}
    for name, path in VALUES.items():
        run(HELM, "lint", "--strict", CHART, "--values", path)
        rendered[name] = documents(template(CHART, path))
        notes = run(HELM, "install", "release", CHART, "--namespace", "monitoring", "--dry-run=client", "--values", path)
        assert "NOTES:\nShow the state" in notes and "port-forward" in notes, f"{path}: has no notes"
    used = {key for path in VALUES.values() for key in yaml.safe_load(path.read_text())}
    unused = set(yaml.safe_load((CHART / "values.yaml").read_text())) - used
    assert not unused, f"no file in ci/ sets {unused}"
    print(f"helm lints and renders {len(rendered)} files of values")
    return rendered


def check_refusals():
    for values, reason in REFUSED.items():
        words = template(CHART, VALUES["default"], "-", text=values, refused=True)
        assert reason in words, f"{values} is refused in other words:\n{words}"
    print(f"{len(REFUSED)} bad values are refused with a reason")


def check_schema():
    """Every value has a type in the schema, every type a value, and the configuration the keys of the documentation."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    definitions = schema["definitions"]

    def properties(node):
        return (definitions[node["$ref"].split("/")[-1]] if "$ref" in node else node).get("properties")

    def compare(node, values, path):
        known = properties(node)
        if known and path not in OPTIONAL_KEYS:
            names = set(known) - (set() if path else FROM_PARENT)
            assert names == set(values), f"values.yaml and its schema differ at {path or 'the top'}: {names ^ set(values)}"
            for key, value in values.items():
                if isinstance(value, dict):
                    compare(known[key], value, f"{path}.{key}".strip("."))

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")
    page = (ROOT / "docs" / "configuration.md").read_text()
    table = re.search(r"<!-- table: keys -->\n(.*?)<!-- end -->", page, re.DOTALL)[1]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    keys = {cells[0].strip("| `"): cells[3] == "yes" for cells in cells}
    config = definitions["config"]["properties"]
    account, auth = definitions["account"]["properties"], definitions["auth"]["properties"]
    allowed = {key for key in keys if key not in SECRETS and not any(f"{key}.".startswith(f"{ours}.") for ours in SET_BY_CHART)}
    differ = set(config) ^ {key.split(".")[0] for key in allowed}
    assert not differ, f"config has other keys in docs/configuration.md: {differ}"
    for section in ("web", "log"):
        written = {key.split(".")[1] for key in allowed if key.startswith(f"{section}.")}
        assert set(config[section]["properties"]) == written, f"{section} has other keys in the documentation"
    differ = set(account) ^ ({key.split(".")[0] for key, of_account in keys.items() if of_account} | {"user_id", "auth"})
    assert not differ, f"an account has other keys in docs/configuration.md: {differ}"
    differ = set(auth) ^ {key.split(".")[-1] for key in allowed if ".auth." in key}
    assert not differ, f"auth has other keys in docs/configuration.md: {differ}"
    print(f"the schema has each of the values, and {len(allowed)} of the exporter's {len(keys)} keys")


def digits():
    """Names of digits alone are strings to Kubernetes, and numbers to YAML without quotes."""
    names = ("serviceAccount.name", "existingSecret", "nameOverride", "priorityClassName")
    given = [argument for name in names for argument in ("--set-string", f"{name}=123")]
    text = run(HELM, "template", "456", CHART, "--namespace", "789", "--values", VALUES["default"], *given)
    disruptions = "podDisruptionBudget: { enabled: true, maxUnavailable: '' }"
    return documents(text) + documents(template(CHART, VALUES["default"], "-", text=disruptions))


def check_kubernetes(rendered):
    validate = pathlib.Path(sys.executable).parent / "kubernetes-validate"
    with tempfile.TemporaryDirectory() as folder:
        native, custom = [], []
        for name, resources in rendered.items():
            for number, resource in enumerate(resources):
                path = pathlib.Path(folder, f"{name}-{number}-{resource['kind']}.yaml")
                path.write_text(yaml.safe_dump(resource))
                (custom if resource["kind"] in CUSTOM else native).append(path)
        run(validate, "--strict", *native)
        run(validate, "--strict", "--kubernetes-version", OLDEST, *native)
        run("node", pathlib.Path(NODE_FOLDER) / "custom_resources.mjs", *custom)
        kinds = {resource["kind"] for resources in rendered.values() for resource in resources}
        assert CUSTOM <= kinds, f"no file of values makes {CUSTOM - kinds}"
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}-0"
    print(f"{len(native) + len(custom)} resources of {len(kinds)} kinds are as the schemas have them")


def check_selectors(rendered):
    """What selects pods selects those of this release, and the names of ports and resources exist."""
    for name, resources in rendered.items():
        workload = helm_pod.workload(resources)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        config = {(resource["kind"], resource["metadata"]["name"]) for resource in resources}
        assert workload["kind"] == ("StatefulSet" if name == "sharded" else "Deployment")
        # A pod's name is its host name, which is cut at 63 characters, and its end is the shard.
        assert len(workload["metadata"]["name"]) + len("-9999") <= 63, f"{name}: the name is too long"
        for resource in resources:
            spec = resource.get("spec", {})
            selector = spec.get("podSelector") or spec.get("selector") or {}
            selector = selector.get("matchLabels", selector)
            assert selector.items() <= labels.items(), f"{name}: {resource['kind']} selects other pods"
            if resource["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PodMonitor"):
                assert len(selector) == 2, f"{name}: {resource['kind']} selects pods of other releases"
            if resource["kind"] == "ServiceMonitor":
                service = next(resource for resource in resources if resource["kind"] == "Service")
                assert selector.items() <= service["metadata"]["labels"].items()
        for volume in workload["spec"]["template"]["spec"]["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in config
    print("selectors, ports and names fit each other")


def check_restarts():
    """A change restarts the pods if, and only if, the running exporter would not take it over."""

    def pods(values):
        return helm_pod.workload(documents(template(CHART, VALUES["default"], "-", text=values)))["spec"]["template"]

    before = pods("{}")
    for values in ("config: {poll: {interval: 2m}}", "config: {endpoint: 'https://cn.myhuaweicloud-koodrive.com'}"):
        assert pods(values) == before, f"{values} restarts the pods"
    for values in ("config: {log: {level: debug}}", "config: {poll: {concurrency: 9}}", "webConfig: {rate_limit: {burst: 9}}"):
        assert pods(values) != before, f"{values} restarts no pod"
    print("a change restarts the pods where it has to, and nowhere else")


def check_rules(groups, thresholds):
    """promtool accepts the rules, and they give accounts these thresholds."""
    accounts = ("finance", "archive", "production")
    up = [{"series": f'koodrive_up{{job="koodrive-exporter", account="{name}"}}', "values": "1x9"} for name in accounts]
    queries = []
    for threshold, account, value in thresholds:
        record = f"account:koodrive_threshold:{threshold}"
        labels = f'job="koodrive-exporter", account="{account}"'
        samples = [{"labels": f"{record}{{{labels}}}", "value": value}]
        queries.append({"expr": f"{record}{{{labels}}}", "eval_time": "5m", "exp_samples": samples})
    with tempfile.TemporaryDirectory() as folder:
        rules, tests = pathlib.Path(folder, "rules.yml"), pathlib.Path(folder, "tests.yml")
        rules.write_text(yaml.safe_dump({"groups": groups}))
        tests.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [{"input_series": up, "promql_expr_test": queries}]}))
        run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
        run("promtool", "test", "rules", tests)


def check_monitoring(rendered):
    """Rules and dashboard are those of deploy/, with the addresses and thresholds of the values and nothing else."""
    prometheus = ROOT / "deploy" / "prometheus"
    sources = [(prometheus / name).read_text() for name in ("koodrive.rules.yml", "koodrive.alerts.yml")]
    dashboard = (ROOT / "deploy" / "grafana" / "dashboards" / "koodrive.json").read_text()
    for name in ("pod-monitor", "monitoring"):
        values = yaml.safe_load(VALUES[name].read_text())
        addresses = {
            "https://runbooks.example/koodrive": values.get("runbookUrl", "https://runbooks.example/koodrive").rstrip("/"),
            "https://grafana.example": values.get("grafanaUrl", "https://grafana.example").rstrip("/"),
        }

        def here(text):
            for theirs, ours in addresses.items():
                text = text.replace(theirs, ours)
            return text

        expected = [group for source in sources for group in yaml.safe_load(here(source))["groups"]]
        groups = next(r for r in rendered[name] if r["kind"] == "PrometheusRule")["spec"]["groups"]
        assert groups[: len(expected)] == expected, f"{name}: the rules are not those of deploy/prometheus"
        own = [group["name"] for group in groups[len(expected) :]]
        assert own == (["koodrive-overrides"] if name == "monitoring" else []), f"{name}: has the groups {own}"
        check_rules(groups, THRESHOLDS if own else [])
        shown = next(r for r in rendered[name] if "grafana_dashboard" in r["metadata"].get("labels", {}))
        assert shown["data"] == {"koodrive.json": here(dashboard)}, f"{name}: the dashboard is another one"
        assert len(shown["data"]["koodrive.json"]) < 250_000, "kubectl apply cannot store the dashboard"
    print(f"{sum(len(group['rules']) for group in expected)} rules and the dashboard are those of deploy/")


def check_package(rendered):
    """The chart among the release files is what helm makes of the folder, but for times."""
    (package,) = (ROOT / "target" / "release-files").glob("*.tgz")
    with tempfile.TemporaryDirectory() as folder:
        run(HELM, "package", CHART, "--destination", folder)
        with tarfile.open(package) as ours, tarfile.open(pathlib.Path(folder, package.name)) as helms:
            names = {entry.name for entry in ours if entry.isfile()}
            assert names == set(helms.getnames()), f"the package has other files: {names ^ set(helms.getnames())}"
    assert documents(template(package, VALUES["monitoring"])) == rendered["monitoring"]
    print(f"the chart's package has {len(names)} files, as helm's has, and renders as the folder does")


def installed_by_readme():
    """What the commands of the README's way to install give, with `template` instead of `install`: there is no cluster."""
    block = lambda words: run(ROOT / ".ci" / "commands", ROOT / "README.md", words)
    commands = block("Each block") + block("**Kubernetes")
    commands = commands.replace("sha256sum --check", "sha256sum --quiet --check")
    values = yaml.safe_load(re.search(r"## Configure\n\n```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1])
    for account in values["accounts"].values():
        account["auth"]["app_secret_file"] = "/run/secrets/koodrive-exporter/app-secret"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "target" / "release-files", folder, dirs_exist_ok=True)
        pathlib.Path(folder, "values.yaml").write_text(yaml.safe_dump({"config": values}))
        shims = 'kubectl() { [[ "$*" == "--namespace monitoring create secret generic koodrive --from-file="* ]]; }\n'
        shims += f'helm() {{ [[ $1 == install ]] && {HELM} template "${{@:2}}"; }}\n'
        done = subprocess.run(["bash", "-euc", shims + commands], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    resources = documents(done.stdout)
    mounted = [r for r in resources if r["kind"] == "Deployment" and "koodrive" in json.dumps(r["spec"]["template"]["spec"]["volumes"])]
    assert mounted, "no Deployment mounts the secret"
    return resources


def readme_resources():
    """What the README's examples of values and of manifests give."""
    blocks = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        is_manifest = "kind" in yaml.safe_load(block)
        yield from documents(block if is_manifest else template(CHART, VALUES["default"], "-", text=block))


def main():
    rendered = check_rendering()
    check_refusals()
    check_schema()
    check_selectors(rendered)
    check_restarts()
    check_monitoring(rendered)
    check_package(rendered)
    check_kubernetes(rendered | {"README": list(readme_resources()), "installed": installed_by_readme(), "digits": digits()})
    helm_pod.check(rendered, BINARY)


main()
