"""A scraper among clients that abort, stall, idle and flood, while 10,000 accounts are polled: once over HTTP/1
without TLS, and once over HTTP/1 and HTTP/2 with TLS.

Usage: hostile.py BINARY [SECONDS] [ACCOUNTS] [overview]     # the seconds of each of the two; one collector instead of all
"""

import collections
import itertools
import os
import pathlib
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SCRAPE_LIMIT = 1.0
GROWTH_LIMIT = 120e6
IDLE_CONNECTIONS = 6000
STALLED_CONNECTIONS = 60
PAGES = ("/metrics", "/", "/health")
ACCEPTS = ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0", "application/json")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, RST_STREAM = 1, 4, 3
END_STREAM_AND_HEADERS = 5


def memory(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2_request(path, accept):
    literal = lambda name, value: bytes([0, len(name)]) + name + bytes([len(value)]) + value
    return (
        b"\x82\x86" + literal(b":path", path.encode()) + literal(b":authority", b"x") + literal(b"accept", accept.encode())
    )


def request(path, accept, coding="gzip"):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nAccept-Encoding: {coding}\r\n\r\n".encode()


class Hostile:
    """Clients of each kind, each on a thread, until `stop` is set."""

    def __init__(self, port, tls):
        self.port, self.stop, self.counts = port, threading.Event(), collections.Counter()
        self.tls = {protocol: client_context(protocol) for protocol in ("http/1.1", "h2")} if tls else None
        kinds = [self.abort, self.stall, self.idle, self.flood, self.flood]
        if tls:
            kinds += [self.stall_streams, self.reset_streams]
        self.threads = [threading.Thread(target=self.keep_on, args=(kind,), daemon=True) for kind in kinds]
        for thread in self.threads:
            thread.start()

    def keep_on(self, kind):
        while not self.stop.is_set():
            try:
                kind()
            except OSError:
                time.sleep(0.01)

    def connect(self, receive_buffer=None, protocol="http/1.1"):
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return self.tls[protocol].wrap_socket(client) if self.tls else client

    def abort(self):
        """One request, and a reset 1 to 3 ms later."""
        client = self.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.send(request(random.choice(PAGES), random.choice(ACCEPTS), random.choice(("gzip", "identity"))))
        time.sleep(random.uniform(0.001, 0.003))
        client.close()
        self.counts["aborted"] += 1

    def stall(self):
        """Readers that take nothing, and come again."""
        clients = []
        for page in itertools.islice(itertools.cycle(PAGES), STALLED_CONNECTIONS):
            client = self.connect(1024)
            client.send(request(page, random.choice(ACCEPTS), "identity"))
            clients.append(client)
            self.counts["stalled"] += 1
        self.stop.wait(5)

    def stall_streams(self):
        """HTTP/2 connections of 32 streams each whose windows stay shut."""
        clients = []
        for page in itertools.islice(itertools.cycle(PAGES), 40):
            client = self.connect(protocol="h2")
            client.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
            self.counts["stalled streams"] += 32
            for stream in range(1, 64, 2):
                client.send(frame(HEADERS, END_STREAM_AND_HEADERS, stream, http2_request(page, random.choice(ACCEPTS))))
            clients.append(client)
        self.stop.wait(5)

    def reset_streams(self):
        """Streams that are opened and reset at once."""
        client = self.connect(protocol="h2")
        client.send(PREFACE + frame(SETTINGS, 0, 0))
        for stream in range(1, 2000, 2):
            head = http2_request(random.choice(PAGES), random.choice(ACCEPTS))
            client.send(frame(HEADERS, END_STREAM_AND_HEADERS, stream, head))
            client.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
            self.counts["reset streams"] += 1
            time.sleep(0.001)

    def idle(self):
        """More connections than there may be, on which nothing happens."""
        clients = []
        for _ in range(IDLE_CONNECTIONS):
            clients.append(self.connect())
            self.counts["idle"] += 1
            if self.stop.is_set():
                return
            time.sleep(0.002)

    def flood(self):
        """Whole answers as fast as they come."""
        client = self.connect()
        client.send(request(random.choice(PAGES), random.choice(ACCEPTS)).replace(b"Host", b"Connection: close\r\nHost"))
        while client.recv(1 << 20):
            pass
        client.close()
        self.counts["flooded"] += 1


def client_context(protocol):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def scrape(url):
    """The status, and how long the whole answer took."""
    ask = urllib.request.Request(f"{url}/metrics", headers={"Accept": ACCEPTS[0], "Accept-Encoding": "gzip"})
    began = time.monotonic()
    with urllib.request.urlopen(ask, timeout=30, context=client_context("http/1.1")) as answer:
        answer.read()
        return answer.status, time.monotonic() - began


def start_simulator(binary, accounts, config):
    simulator = subprocess.Popen(
        [binary, "simulate", "--listen-address", "127.0.0.1:0", "--accounts", str(accounts), "--interval", "60s",
         "--write-config", config],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    simulator.stdout.readline()
    return simulator


def attack(binary, config, folder, tls, seconds):
    flags = []
    if tls:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
             "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost", "-days", "2"],
            cwd=folder, check=True, capture_output=True,
        )
        web = pathlib.Path(folder, "web.yml")
        web.write_text("tls_server_config: { cert_file: cert.pem, key_file: key.pem }\n")
        flags = ["--web.config.file", web]
    log = pathlib.Path(folder, "log")
    exporter = subprocess.Popen(
        [binary, "--config.file", config, "--web.listen-address", "127.0.0.1:0", *flags], stderr=log.open("wb")
    )
    while not (listening := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())):
        time.sleep(0.05)
    port = int(listening[1])
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    while f"koodrive_exporter_polls_waiting 0" not in (page := metrics(url)) or page.count("\nkoodrive_up{") < ACCOUNTS:
        time.sleep(1)
    for _ in range(5):
        quiet = scrape(url)[1]
        time.sleep(1)
    before = memory(exporter)
    attackers = os.fork()
    if attackers == 0:
        # They would have machines of their own; here they must leave the exporter its share of the processors.
        os.nice(10)
        hostile = Hostile(port, tls)
        time.sleep(seconds)
        hostile.stop.set()
        print("  " + ", ".join(f"{count} {kind}" for kind, count in sorted(hostile.counts.items())), flush=True)
        os._exit(0)
    slowest, most, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        status, took = scrape(url)
        assert status == 200 and took < SCRAPE_LIMIT, f"{status} after {took:.3f} s"
        slowest, most = max(slowest, took), max(most, memory(exporter))
        time.sleep(max(0, 1 - took))
    os.waitpid(attackers, 0)
    time.sleep(3)
    scrape(url)
    time.sleep(3)
    after = memory(exporter)
    mib = lambda size: f"{size / 1024 / 1024:.1f} MiB"
    print(f"scrapes every second for {seconds} s, {'with' if tls else 'without'} TLS: "
          f"{slowest * 1000:.0f} ms at most (quiet: {quiet * 1000:.0f} ms)")
    print(f"memory: {mib(before)} before, {mib(most)} at most, {mib(after)} after", flush=True)
    assert most - before < GROWTH_LIMIT, "it grew by more than 120 MB"
    assert after - before < GROWTH_LIMIT / 3, "it does not return"
    exporter.terminate()
    assert exporter.wait(timeout=10) == 0


def metrics(url):
    return urllib.request.urlopen(f"{url}/metrics", timeout=10, context=client_context("http/1.1")).read().decode()


BINARY = sys.argv[1]
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 60
ACCOUNTS = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000


def main():
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "k.yml")
        simulator = start_simulator(BINARY, ACCOUNTS, config)
        if sys.argv[4:] == ["overview"]:
            config.write_text(re.sub("^collectors: .*\n", "", config.read_text()))
        for tls in (False, True):
            attack(BINARY, config, folder, tls, SECONDS)
        simulator.terminate()
        simulator.wait(timeout=10)


main()
