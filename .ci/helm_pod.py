"""Whether the chart's pods are safe, and run: the exporter gets the pod's files, arguments and variables, and its probes.

Mount paths are folders below a temporary one, and what names them is changed accordingly.
"""

import base64
import contextlib
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from servers import free_port, wait_until

# The password of ci/tls-values.yaml.
USER = "Basic " + base64.b64encode(b"prometheus:example").decode()
SECRET = "only for this check"


def workload(resources):
    return next(resource for resource in resources if resource["kind"] in ("Deployment", "StatefulSet"))


def check_safety(name, pod):
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and not context.get("privileged"), f"{name}: privileges"
        assert context["readOnlyRootFilesystem"] is True, f"{name}: the root file system is writable"
        assert context["capabilities"] == {"drop": ["ALL"]}, f"{name}: capabilities"
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["runAsGroup"] > 0, f"{name}: root"
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: no seccomp profile"
    assert pod["automountServiceAccountToken"] is False, f"{name}: the pod has a token"
    assert pod["enableServiceLinks"] is False, f"{name}: variables of other services"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), f"{name}: namespaces of the host"
    for volume in pod["volumes"]:
        assert "hostPath" not in volume, f"{name}: a path of the host"
        assert volume.get("secret", {}).get("defaultMode", 0o440) == 0o440, f"{name}: a secret for everybody"


class Pod:
    """The exporter's container in a folder."""

    def __init__(self, resources, folder, ordinal):
        template = workload(resources)["spec"]["template"]["spec"]
        self.grace = template["terminationGracePeriodSeconds"]
        self.container = next(c for c in template["containers"] if c["name"] == "koodrive-exporter")
        self.folder, self.address = pathlib.Path(folder), f"127.0.0.1:{free_port()}"
        self.mounts = [mount["mountPath"] for mount in self.container["volumeMounts"]]
        volumes = {volume["name"]: volume for volume in template["volumes"]}
        self.fill(resources, volumes)
        self.env = {"PATH": os.environ["PATH"]}
        for variable in self.container.get("env", []):
            self.env[variable["name"]] = variable.get("value", SECRET)
        if self.env.get("KOODRIVE_EXPORTER__SHARD__INDEX") == "hostname":
            self.env["KOODRIVE_EXPORTER__SHARD__INDEX"] = str(ordinal)

    def here(self, text):
        for mount in self.mounts:
            text = text.replace(f"{mount}/", f"{self.folder}{mount}/")
        port = self.container["ports"][0]["containerPort"]
        return text.replace(f"--web.listen-address=:{port}", f"--web.listen-address={self.address}")

    def arguments(self, given=None):
        return [self.here(argument) for argument in given or self.container["args"]]

    def fill(self, resources, volumes):
        stored = {(r["kind"], r["metadata"]["name"]): r.get("data") or r.get("stringData") for r in resources}
        texts = []
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            path = pathlib.Path(f"{self.folder}{mount['mountPath']}")
            path.mkdir(parents=True)
            config_map, secret = (volume.get(kind, {}) for kind in ("configMap", "secret"))
            key = ("ConfigMap", config_map["name"]) if config_map else ("Secret", secret.get("secretName"))
            for name, text in stored.get(key, {}).items():
                texts.append(self.here(text))
                self.write(path / name, texts[-1])
        # What another Secret must have is what the configuration names.
        for name in re.findall(rf"{re.escape(str(self.folder))}/[\w./-]+", "\n".join(texts)):
            path = pathlib.Path(name)
            if not path.exists():
                made = self.folder / "made" / path.suffix[1:]
                self.write(path, made.read_text() if made.is_file() else SECRET)

    def write(self, path, text):
        assert path.parent.is_dir(), f"{path} is not in a volume of the pod"
        path.write_text(text)
        path.chmod(0o440)

    def probe(self, binary, probe):
        """Whether the probe succeeds, as the kubelet would see it: it takes any certificate, and has no password."""
        if "exec" in probe:
            command, *arguments = self.arguments(probe["exec"]["command"])
            assert command == "/usr/bin/koodrive-exporter"
            return subprocess.run([binary, *arguments], env=self.env, capture_output=True, timeout=10).returncode == 0
        get = probe["httpGet"]
        assert get["port"] == self.container["ports"][0]["name"]
        return self.get(get["scheme"].lower(), get["path"])[0] == 200

    def get(self, scheme, path, headers=None):
        request = urllib.request.Request(f"{scheme}://{self.address}{path}", headers=headers or {})
        context = ssl._create_unverified_context() if scheme == "https" else None
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""


@contextlib.contextmanager
def pod_of(resources, ordinal=0):
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder, "made")
        made.mkdir()
        names = ["-subj", "/CN=exporter", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", made / "key", "-out", made / "crt"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", *names, *files]
        subprocess.run(command, check=True, capture_output=True)
        yield Pod(resources, folder, ordinal)


def check_configuration(name, resources, binary):
    shards = workload(resources)["spec"]["replicas"] if name == "sharded" else 1
    for ordinal in range(shards):
        with pod_of(resources, ordinal) as pod:
            done = subprocess.run([binary, "check", "--strict", *pod.arguments()], env=pod.env, capture_output=True, text=True)
            assert done.returncode == 0, f"{name}: the exporter refuses the pod's configuration\n{done.stderr}"
            # What the schema leaves to the exporter is refused by it.
            config = next(a for a in pod.arguments() if a.startswith("--config.file=")).split("=")[1]
            text = pathlib.Path(config).read_text()
            pathlib.Path(config).chmod(0o640)
            pathlib.Path(config).write_text(text + "nothing: 1\n")
            done = subprocess.run([binary, "check", *pod.arguments()], env=pod.env, capture_output=True, text=True)
            assert done.returncode == 3 and "nothing" in done.stderr, f"{name}: {done.stderr}"


def check_life(name, resources, binary, simulator):
    """Probes, scrape and stop of one pod, whose polls reach the simulator, which knows none of its secrets."""
    with pod_of(resources) as pod:
        pod.env["KOODRIVE_EXPORTER__ENDPOINT"] = f"http://{simulator}"
        exporter = subprocess.Popen([binary, *pod.arguments()], env=pod.env, stderr=subprocess.DEVNULL)
        try:
            kinds = [kind for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in pod.container]
            assert len(kinds) == 3 or name == "everything"
            for kind in kinds:
                probe = pod.container[kind]
                wait_until(f"{kind} of {name}", lambda: pod.probe(binary, probe))
                if "httpGet" in probe:
                    elsewhere = {"httpGet": {**probe["httpGet"], "path": probe["httpGet"]["path"] + "x"}}
                    assert not pod.probe(binary, elsewhere), f"{name}: {kind} finds any path"
            check_scrape(name, resources, pod)
            # A client that never ends its request holds up the stop as long as any client can.
            host, port = pod.address.split(":")
            with socket.create_connection((host, port)) as slow:
                slow.sendall(b"GET / HTTP/1.1\r\n")
                started = time.monotonic()
                exporter.send_signal(signal.SIGTERM)
                assert exporter.wait(timeout=pod.grace) == 0, f"{name}: SIGTERM ends it with {exporter.returncode}"
                took = time.monotonic() - started
            if "exec" in pod.container["livenessProbe"]:
                assert not pod.probe(binary, pod.container["livenessProbe"]), f"{name}: the probe finds an exporter that stopped"
            return took
        finally:
            exporter.kill()
            exporter.wait()


def check_scrape(name, resources, pod):
    """The monitor's path and scheme give the metrics to those who may read them."""
    monitors = [resource["spec"] for resource in resources if resource["kind"] in ("ServiceMonitor", "PodMonitor")]
    for monitor in monitors:
        (endpoint,) = monitor.get("endpoints") or monitor["podMetricsEndpoints"]
        assert endpoint["port"] == pod.container["ports"][0]["name"]
        job = {"action": "replace", "targetLabel": "job", "replacement": "koodrive-exporter"}
        assert endpoint["relabelings"][0] == job, f"{name}: the alerts look for another job"
        if "cert" in endpoint.get("tlsConfig", {}):
            try:
                status, _ = pod.get(endpoint["scheme"], endpoint["path"])
            except OSError:
                continue
            raise AssertionError(f"{name}: a scrape without a client certificate gets {status}")
        if "basicAuth" in endpoint:
            assert pod.get(endpoint["scheme"], endpoint["path"])[0] == 401, f"{name}: a scrape needs no password"
        status, text = pod.get(endpoint["scheme"], endpoint["path"], {"Authorization": USER})
        assert status == 200 and "koodrive_exporter_build_info" in text, f"{name}: a scrape gets {status}"


def check(rendered, binary):
    for name, resources in rendered.items():
        check_safety(name, workload(resources)["spec"]["template"]["spec"])
        check_configuration(name, resources, binary)
    print(f"the exporter accepts configuration, arguments and variables of {len(rendered)} kinds of pods")
    simulator = f"127.0.0.1:{free_port()}"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([binary, "simulate", "--listen-address", simulator], **silent)
    try:
        took = max(check_life(name, resources, binary, simulator) for name, resources in rendered.items())
    finally:
        process.kill()
        process.wait()
    print(f"probes, scrapes and SIGTERM are answered by {len(rendered)} pods; the slowest stop took {took:.1f} s")
