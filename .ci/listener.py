"""Real clients and real attacks against the exporter's listener.

Prometheus scrapes over TLS with a password and with a client certificate; curl speaks HTTP/1.1, HTTP/2, TLS 1.2 and
1.3; slowhttptest and thousands of slow connections leave scrapes quick and memory small.

Usage: listener.py BINARY
"""

import pathlib
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

import bcrypt

from servers import Prometheus, wait_until

SLOW_CONNECTIONS = 1000
SCRAPE_LIMIT = 0.1
MEMORY_LIMIT = 64 * 1024 * 1024
PASSWORD = "a password of the tests"


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def make_certificates(folder):
    """An authority, a server's certificate for localhost and a client's."""
    openssl = lambda *arguments: run("openssl", *arguments, cwd=folder)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority", "-days", "2")
    for name, alternative in (("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:prometheus.example")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        pathlib.Path(folder, "extensions").write_text(f"subjectAltName={alternative}\n")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)


class Exporter:
    """The demo behind a web configuration file, or plain."""

    def __init__(self, binary, folder, web=None):
        command = [binary, "demo", "--web.listen-address", "127.0.0.1:0"]
        if web is not None:
            path = pathlib.Path(folder, f"web-{len(list(pathlib.Path(folder).iterdir()))}.yml")
            path.write_text(web)
            command += ["--web.config.file", path]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().split()[-1].rstrip("/").replace("127.0.0.1", "localhost")
        self.port = int(self.url.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=10) == 0

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def prometheus_is_up(folder, exporter, settings):
    """Whether a real Prometheus scrapes the exporter with these settings of its own."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
    config = folder / "prometheus.yml"
    config.write_text(
        "global: { scrape_interval: 1s }\n"
        f"scrape_configs: [{{ job_name: koodrive, static_configs: [{{ targets: ['localhost:{exporter.port}'] }}],"
        f" {settings} }}]\n"
    )
    with Prometheus(config, folder / "data") as prometheus:
        found = wait_until("Prometheus has scraped", lambda: prometheus.query("up"))
        return found[0]["value"][1] == "1"


def check_prometheus(binary, folder):
    tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
    trust = f"scheme: https, tls_config: {{ ca_file: {folder}/ca.crt"
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    with Exporter(binary, folder, f"{tls}basic_auth_users:\n  prometheus: {hashed}\n") as exporter:
        user = lambda password: f"{trust} }}, basic_auth: {{ username: prometheus, password: {password} }}"
        assert prometheus_is_up(folder, exporter, user(PASSWORD))
        assert not prometheus_is_up(folder, exporter, user("wrong"))
        print("Prometheus scrapes over TLS with the right password alone")
    client = (
        "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
        "  client_allowed_sans: [prometheus.example]\n"
    )
    with Exporter(binary, folder, tls + client) as exporter:
        assert prometheus_is_up(
            folder, exporter, f"{trust}, cert_file: {folder}/client.crt, key_file: {folder}/client.key }}"
        )
        assert not prometheus_is_up(folder, exporter, f"{trust} }}")
        print("Prometheus scrapes with its client certificate alone")


def check_curl(binary, folder):
    with Exporter(binary, folder, "tls_server_config: { cert_file: server.crt, key_file: server.key }") as exporter:
        written_out = "%{http_version} %{response_code} %{size_download}"
        for flags, version in (
            (["--http1.1", "--tls-max", "1.2"], "1.1"),
            (["--http1.1", "--tlsv1.3"], "1.1"),
            (["--http2", "--tls-max", "1.2"], "2"),
            (["--http2", "--tlsv1.3"], "2"),
            (["--http2", "--compressed"], "2"),
        ):
            arguments = ["-sS", "--cacert", f"{folder}/ca.crt", "-o", "/dev/null", "-w", written_out, *flags]
            got = run("curl", *arguments, f"{exporter.url}/metrics").split()
            assert got[:2] == [version, "200"] and int(got[2]) > 1000, (flags, got)
        old = subprocess.run(["curl", "-sS", "-k", "--tls-max", "1.1", exporter.url], capture_output=True)
        assert old.returncode != 0
    print("curl is answered over HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3, and over nothing older")


def scrape(exporter, context=None):
    """How long a scrape over a connection of its own takes."""
    start = time.monotonic()
    with urllib.request.urlopen(f"{exporter.url}/metrics", timeout=10, context=context) as answer:
        assert answer.status == 200 and b"koodrive_polls_total" in answer.read()
    return time.monotonic() - start


def check_slowhttptest(binary, folder):
    """Slow headers, slow bodies and slow reading, while a scrape each second stays quick."""
    with Exporter(binary, folder) as exporter:
        for name, flags in (
            ("slow headers", ["-H", "-i", "5"]),
            ("slow bodies", ["-B", "-i", "5", "-s", "8192"]),
            ("slow reading", ["-X", "-w", "1", "-y", "8", "-n", "5", "-z", "1", "-k", "3"]),
        ):
            command = ["slowhttptest", *flags, "-c", "1000", "-r", "500", "-l", "12", "-u", f"{exporter.url}/metrics"]
            start = lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            attack, attacks, times = start(), 1, []
            for _ in range(10):
                # It ends when the last of its connections was ended.
                if attack.poll() is not None:
                    attack, attacks = start(), attacks + 1
                times.append(scrape(exporter))
                time.sleep(1)
            attack.kill()
            attack.wait()
            assert max(times) < SCRAPE_LIMIT, (name, times)
            print(f"{name} by 1,000 connections, {attacks} times: {len(times)} scrapes took {max(times) * 1000:.1f} ms at most")


def check_many_slow_connections(binary, folder, tls):
    """Connections that sent half a head, or half a handshake, and then one byte now and then."""
    web = "tls_server_config: { cert_file: server.crt, key_file: server.key }" if tls else None
    with Exporter(binary, folder, web) as exporter:
        context = ssl.create_default_context(cafile=f"{folder}/ca.crt") if tls else None
        before, held = exporter.memory(), []
        for _ in range(SLOW_CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", exporter.port))
            if tls:
                connection = context.wrap_socket(connection, server_hostname="localhost")
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            held.append(connection)
        times, memory = [], 0
        for _ in range(10):
            times.append(scrape(exporter, context))
            memory = max(memory, exporter.memory())
            time.sleep(0.2)
        still_open = sum(alive(connection) for connection in held)
        for connection in held:
            connection.close()
        kind = "TLS" if tls else "plain"
        assert max(times) < SCRAPE_LIMIT and memory < MEMORY_LIMIT, (kind, times, memory)
        wait_until("the connections are gone", lambda: descriptors(exporter) < 64)
        after = scrape(exporter, context)
        print(
            f"{still_open} of {SLOW_CONNECTIONS} slow {kind} connections open: scrapes took {max(times) * 1000:.1f} ms at most, "
            f"memory {memory / 2**20:.1f} MiB (before {before / 2**20:.1f}); once they are gone {after * 1000:.1f} ms, "
            f"{descriptors(exporter)} descriptors"
        )


def alive(connection):
    try:
        connection.sendall(b"x")
        return True
    except OSError:
        return False


def descriptors(exporter):
    return len(list(pathlib.Path(f"/proc/{exporter.process.pid}/fd").iterdir()))


def main():
    binary = sys.argv[1]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(folder)
        check_prometheus(binary, folder)
        check_curl(binary, folder)
        # The exporter raises its own limit on open files, and starts from the usual one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        check_slowhttptest(binary, folder)
        for tls in (False, True):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
            check_many_slow_connections(binary, folder, tls)


main()
