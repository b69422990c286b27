"""A scraper among clients that abort, stall, idle and flood, over HTTP/1 and HTTP/2, while 10,000 accounts are polled.

Usage: hostile.py BINARY [SECONDS] [ACCOUNTS]
"""

import itertools
import os
import pathlib
import random
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SCRAPE_LIMIT = 1.0
GROWTH_LIMIT = 120 * 1024 * 1024
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

    def __init__(self, port):
        self.port, self.stop, self.counts = port, threading.Event(), dict.fromkeys(
            ("aborted", "stalled", "stalled streams", "idle", "reset streams", "flooded"), 0
        )
        kinds = (self.abort, self.stall, self.stall_streams, self.idle, self.reset_streams, self.flood, self.flood)
        self.threads = [threading.Thread(target=self.keep_on, args=(kind,), daemon=True) for kind in kinds]
        for thread in self.threads:
            thread.start()

    def keep_on(self, kind):
        while not self.stop.is_set():
            try:
                kind()
            except OSError:
                time.sleep(0.01)

    def connect(self, receive_buffer=None):
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return client

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
            client = self.connect()
            client.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
            for stream in range(1, 64, 2):
                client.send(frame(HEADERS, END_STREAM_AND_HEADERS, stream, http2_request(page, random.choice(ACCEPTS))))
                self.counts["stalled streams"] += 1
            clients.append(client)
        self.stop.wait(5)

    def reset_streams(self):
        """Streams that are opened and reset at once."""
        client = self.connect()
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
        client.send(request(random.choice(PAGES), random.choice(ACCEPTS)))
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 20):
            pass
        client.close()
        self.counts["flooded"] += 1


def scrape(port):
    """The status, and how long the whole answer took."""
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": ACCEPTS[0], "Accept-Encoding": "gzip"}
    )
    began = time.monotonic()
    with urllib.request.urlopen(ask, timeout=30) as answer:
        answer.read()
        return answer.status, time.monotonic() - began


def main():
    binary = sys.argv[1]
    seconds, accounts = [int(argument) for argument in (*sys.argv[2:], 60, 10_000)[: len(sys.argv[2:])] or ()] or (60, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "k.yml")
        simulator = subprocess.Popen(
            [binary, "simulate", "--listen-address", "127.0.0.1:0", "--accounts", str(accounts), "--interval", "60s",
             "--write-config", config],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        simulator.stdout.readline()
        log = pathlib.Path(folder, "log")
        exporter = subprocess.Popen(
            [binary, "--config.file", config, "--web.listen-address", "127.0.0.1:0"], stderr=log.open("wb")
        )
        while "listening" not in log.read_text():
            time.sleep(0.05)
        port = int(log.read_text().split("127.0.0.1:")[1].split("/")[0].split('"')[0].split()[0])
        ready = f"http://127.0.0.1:{port}/-/ready"
        while True:
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        # Both codings and both formats once, which the exporter then has memory for.
        for _ in range(5):
            quiet = scrape(port)[1]
            time.sleep(1.5)
        before = memory(exporter)
        # Those who attack have a machine of their own; here they must not take the exporter's processors.
        attackers = os.fork()
        if attackers == 0:
            os.nice(10)
            hostile = Hostile(port)
            time.sleep(seconds)
            hostile.stop.set()
            print("  " + ", ".join(f"{count} {kind}" for kind, count in hostile.counts.items()), flush=True)
            os._exit(0)
        slowest, most, end = 0, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            status, took = scrape(port)
            assert status == 200 and took < SCRAPE_LIMIT, f"{status} after {took:.3f} s"
            slowest, most = max(slowest, took), max(most, memory(exporter))
            time.sleep(max(0, 1 - took))
        os.waitpid(attackers, 0)
        time.sleep(3)
        scrape(port)
        time.sleep(3)
        after = memory(exporter)
        mib = lambda size: f"{size / 1024 / 1024:.1f} MiB"
        print(f"scrapes every second for {seconds} s: {slowest * 1000:.0f} ms at most (quiet: {quiet * 1000:.0f} ms)")
        print(f"memory: {mib(before)} before, {mib(most)} at most, {mib(after)} after")
        assert most - before < GROWTH_LIMIT, "it grew by more than 120 MiB"
        assert after - before < GROWTH_LIMIT / 3, "it does not return"
        for process in (exporter, simulator):
            process.terminate()
            process.wait(timeout=10)


main()
