"""Runs the commands of the runbooks, as the index explains them for an exporter with TLS and a password.

The exporter polls the simulator, of which one account fails; Prometheus and Alertmanager run, too. Each line of each
block must end with exit code 0, and each query name what the rules record or docs/metrics.md has. What asks for systemd
is only parsed here: package.sh runs it. The index's functions for Kubernetes run with a kubectl that knows no cluster;
package.sh and image.sh run those for systemd and containers.

Usage: runbooks.py BINARY
"""

import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import bcrypt

from servers import Prometheus, answers, free_port, wait_until

DEPLOY = pathlib.Path(__file__).parent.parent / "deploy"
# There is no systemd here: package.sh runs these.
NOT_RUN = re.compile(r"^(systemctl|timedatectl)")
ACCOUNT = "production"


def blocks(language):
    for page in sorted((DEPLOY / "runbooks").glob("KooDrive*.md")):
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            yield page.stem, block.splitlines()


class Scene:
    """An exporter with TLS, a password and a failing account; Prometheus and Alertmanager."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def begin(self, binary):
        folder = self.folder
        self.simulator, self.exporter, self.alertmanager = (f"localhost:{free_port()}" for _ in range(3))
        self.config, self.web, self.log = (folder / name for name in ("koodrive.yml", "web.yml", "log"))
        pair = ["-keyout", folder / "server.key", "-out", folder / "ca.crt", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *pair])
        password = bcrypt.hashpw(b"correct-horse", bcrypt.gensalt(4)).decode()
        self.tls = f"tls_server_config: {{ cert_file: ca.crt, key_file: server.key }}\nbasic_auth_users: {{ prometheus: '{password}' }}\n"
        self.web.write_text(self.tls)
        (folder / "exporter.netrc").write_text("machine localhost login prometheus password correct-horse\n")
        self.start([binary, "simulate", f"--listen-address={self.simulator}", f"--write-config={self.config}", "--interval=1s"])
        wait_until("the simulator writes a configuration", lambda: self.config.exists())
        with self.log.open("w") as log:
            flags = [f"--config.file={self.config}", f"--web.config.file={self.web}", f"--web.listen-address={self.exporter}"]
            self.running = self.start([binary, *flags], stderr=log)
        wait_until("the exporter polls", lambda: "message=polling" in self.log.read_text())
        order = ["-X", "PUT", f"http://{self.simulator}/simulator/accounts/1505084218764547200", "-d", '{"fault": {"kind": "status", "status": 500}}']
        run(["curl", "-sf", *order])
        wait_until("the account fails", lambda: f"account={ACCOUNT}" in self.log.read_text())
        # A reload of each file leaves its line in the log.
        self.web.write_text(self.tls + "# Changed.\nhttp_server_config: { http2: false }\n")
        self.running.send_signal(signal.SIGHUP)
        for line in ("web configuration reloaded", '"configuration reloaded"'):
            wait_until(line, lambda: line in self.log.read_text())
        command = ["prometheus-alertmanager", f"--config.file={DEPLOY}/alertmanager/alertmanager.yml", f"--storage.path={folder}/alertmanager"]
        self.start([*command, f"--web.listen-address={self.alertmanager}", "--cluster.listen-address=", "--log.level=error"])

    def start(self, command, **others):
        self.processes.append(subprocess.Popen(command, **({"stdout": subprocess.DEVNULL} | others)))
        return self.processes[-1]

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def prelude(self, binary, prometheus):
        return f"""set -o pipefail; cd {self.folder}
        EXPORTER='--cacert ca.crt --netrc-file exporter.netrc https://{self.exporter}'
        PROMETHEUS=http://{prometheus} ALERTMANAGER=http://{self.alertmanager}
        WEB_CONFIG={self.web}
        exporter() {{ {binary} "$@" --config.file {self.config} || [[ $? == 4 ]]; }}
        log() {{ cat {self.log}; }}
        """

    def kubernetes(self, binary):
        """The index's functions for Kubernetes, with a kubectl that runs the program and shows the log here."""
        kubectl = f"""kubectl() {{
            [[ "$2 $3 $4" == "--namespace monitoring deploy/koodrive-exporter" ]]
            case $1 in
                logs) cat {self.log} ;;
                exec) [[ "$5 $6" == "-- /usr/bin/koodrive-exporter" ]]; {binary} "${{@:7}}" --config.file {self.config} || [[ $? == 4 ]] ;;
            esac
        }}"""
        index = (DEPLOY / "runbooks" / "README.md").read_text()
        functions = [line for line in index.splitlines() if re.search(r"# Kubernetes(;|$)", line)]
        assert len(functions) == 4, functions
        script = "\n".join(["set -euo pipefail", kubectl, *functions, "exporter check --online", "log"])
        done = run(["bash", "-c", script])
        assert "message=polling" in done and "ACCOUNT" in done, done


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def main(binary, folder, scene):
    config = folder / "prometheus.yml"
    target = "scheme: https, tls_config: { ca_file: ca.crt }, basic_auth: { username: prometheus, password: correct-horse }"
    scene.begin(binary)
    config.write_text(f"scrape_configs: [{{ job_name: koodrive, {target}, static_configs: [{{ targets: ['{scene.exporter}'] }}] }}]\n")
    count = 0
    with Prometheus(config, folder / "data") as prometheus:
        wait_until("Prometheus scrapes", lambda: prometheus.query("up"))
        wait_until("Alertmanager answers", lambda: answers(f"http://{scene.alertmanager}/-/ready"))
        scene.kubernetes(binary)
        prelude = scene.prelude(binary, prometheus.address)
        for page, lines in blocks("sh"):
            for line in lines:
                if NOT_RUN.match(line):
                    run(["bash", "-n", "-c", line])
                    continue
                here = line.replace("ACCOUNT", ACCOUNT)
                here = here.replace("https://ENDPOINT", f"http://{scene.simulator}").replace("HOST:10710", scene.exporter)
                here = here.replace("/etc/koodrive-exporter/exporter.crt", str(folder / "ca.crt"))
                here = here.replace("/etc/prometheus/prometheus.yml", str(config)).replace("/run/secrets", str(folder))
                done = subprocess.run(["bash", "-c", prelude + here], capture_output=True, text=True, timeout=30)
                assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
                assert "correct-horse" not in done.stdout + done.stderr
                count += 1
        queries = [(page, line) for page, lines in blocks("promql") for line in lines]
        documents = (DEPLOY.parent / "docs" / "metrics.md").read_text() + (DEPLOY / "prometheus" / "koodrive.rules.yml").read_text()
        for page, query in queries:
            prometheus.query(query.replace("ACCOUNT", ACCOUNT))
            for name in re.findall(r"\b(?:account:)?koodrive_\w+(?::\w+)?", query):
                assert re.search(rf"(`| ){name}\b", documents), f"{page}: nothing has {name}"
    print(f"{count} commands and {len(queries)} queries of the runbooks run as they stand")


with tempfile.TemporaryDirectory() as temporary:
    started = Scene(pathlib.Path(temporary))
    try:
        main(str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(temporary), started)
    finally:
        started.stop()
