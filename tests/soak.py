"""The exporter against the simulator while faults are drawn at random, watched by two scrapers.

Usage: soak.py BINARY MINUTES [SEED]

At the end: no scrape failed, every counter only rose, the exporter counted the requests that the simulator
counted (and those whose time ran out while the whole process was paused), memory and file descriptors stayed flat, nothing panicked, every account recovered, and
SIGTERM ended it with exit code 0.
"""

import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ACCOUNTS = 30
CONCURRENCY = 16
SCRAPES_PER_SECOND = 5
PATIENCE = 120
FAULTS = [
    *({"kind": "status", "status": status} for status in (302, 400, 401, 404, 500, 502, 503, 504)),
    {"kind": "delay", "milliseconds": 300},
    {"kind": "delay", "milliseconds": 3000},
    {"kind": "truncated"},
    {"kind": "code", "code": 13000412},
    {"kind": "rate_limited", "retry_after": 2},
    {"kind": "dropped"},
]
COUNTER = re.compile(r"^(\S+_(?:total|count|sum|bucket)(?:\{.*\})?) (\S+)$")
SERIES = re.compile(r"^(\w+)(\{.*\})? (\S+)$")


def get(url, timeout=PATIENCE):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def put(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=PATIENCE).close()


class Watch(threading.Thread):
    """Scrapes, and notes every failure and every counter that falls."""

    def __init__(self, url, stop):
        super().__init__(daemon=True)
        self.url, self.stop, self.scrapes, self.wrong, self.counters = url, stop, 0, [], {}

    def run(self):
        while not self.stop.wait(1 / SCRAPES_PER_SECOND):
            try:
                page = get(self.url)
            except OSError as error:
                self.wrong.append(f"a scrape failed: {error}")
                continue
            self.scrapes += 1
            for line in page.splitlines():
                if match := COUNTER.match(line):
                    series, value = match[1], float(match[2])
                    if value < self.counters.get(series, 0):
                        self.wrong.append(f"{series} fell from {self.counters[series]} to {value}")
                    self.counters[series] = value


class Soak:
    def __init__(self, binary, folder, seed):
        self.folder, self.random, self.wrong, self.samples = pathlib.Path(folder), random.Random(seed), [], []
        self.pauses, self.latest_counts = 0, None
        config = self.folder / "k.yml"
        self.simulate = subprocess.Popen(
            [binary, "simulate", "--listen-address", "127.0.0.1:0", "--accounts", str(ACCOUNTS)]
            + ["--interval", "1s", "--write-config", config],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.simulator = self.simulate.stdout.readline().split()[-1]
        self.tokens = {}
        yaml = re.sub(r"token: (simulated-token-(\d+))", self.move_token, config.read_text())
        config.write_text(yaml + "log: { level: warn }\n")
        self.users = sorted(json.loads(get(self.simulator))["accounts"])
        self.log = open(self.folder / "log", "w+")
        self.exporter = subprocess.Popen(
            [binary, "--config.file", config, "--web.listen-address", f"unix:{self.folder}/unused"]
            + ["--web.listen-address", "127.0.0.1:0", "--log.level", "info"],
            stderr=self.log,
        )
        self.url = self.wait_for(self.listening, "the exporter never listened")

    def move_token(self, match):
        """Puts a token into a file of its own, to be rotated."""
        path = self.folder / f"token-{match[2]}"
        path.write_text(match[1])
        self.tokens[int(match[2])] = path
        return f"token_file: {path}"

    def wait_for(self, look, otherwise):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.05)
        self.wrong.append(otherwise)
        return None

    def listening(self):
        self.log.flush()
        match = re.search(r"address=(127\.0\.0\.1:\d+)", (self.folder / "log").read_text())
        return match and f"http://{match[1]}"

    def set(self, index, fault=None, numbers=None, token=None):
        order = {"fault": fault, "numbers": numbers, "token": token}
        put(f"{self.simulator}/accounts/{self.users[index]}", order)

    def clock(self, ahead):
        put(f"{self.simulator}/clock", {"seconds_ahead": ahead})

    def misfortune(self):
        """One random event."""
        index, draw = self.random.randrange(ACCOUNTS), self.random.random()
        if draw < 0.45:
            self.set(index, fault=self.random.choice(FAULTS))
        elif draw < 0.75:
            self.set(index)
        elif draw < 0.82:
            self.set(index, numbers={"totalUsed": -1, "totalCapacity": "7"})
        elif draw < 0.92:
            index = self.random.choice(list(self.tokens))
            token, first = f"token-{self.random.randrange(10**9)}", self.random.random() < 0.5
            if first:
                self.set(index, token=token)
            self.rotate(index, token)
            if not first:
                self.set(index, token=token)
        elif draw < 0.95:
            path = self.tokens[self.random.choice(list(self.tokens))]
            token = path.read_text()
            path.unlink()
            time.sleep(1.5)
            path.write_text(token)
        elif draw < 0.98:
            self.clock(self.random.choice([0, 1200, -1200, 7200, -7200]))
        else:
            self.pauses += 1
            self.exporter.send_signal(signal.SIGSTOP)
            time.sleep(self.random.uniform(0.5, 5))
            self.exporter.send_signal(signal.SIGCONT)

    def rotate(self, index, token):
        """As Kubernetes does it: another file takes the place of the old one."""
        fresh = self.folder / "fresh"
        fresh.write_text(token + self.random.choice(["", "\n", "\r\n"]))
        os.replace(fresh, self.tokens[index])

    def sample(self):
        process = pathlib.Path(f"/proc/{self.exporter.pid}")
        resident = int(re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())[1])
        self.samples.append((resident, len(list((process / "fd").iterdir()))))

    def values(self):
        matches = (SERIES.match(line) for line in get(f"{self.url}/metrics").splitlines())
        return {(match[1], match[2] or ""): float(match[3]) for match in matches if match}

    def recovered(self):
        values = self.values()
        up = [value for (name, _), value in values.items() if name == "koodrive_up"]
        return up and all(value == 1 for value in up) and values

    def counts(self):
        """Requests as the simulator and as the exporter count them, in a moment when none is under way."""
        before = int(get(f"{self.simulator}/requests"))
        values = self.values()
        after = int(get(f"{self.simulator}/requests"))
        own = sum(value for (name, _), value in values.items() if name == "koodrive_exporter_api_requests_total")
        self.latest_counts = (before, int(own))
        quiet, unsent = before == after, own - before
        return self.latest_counts if quiet and 0 <= unsent <= self.pauses * CONCURRENCY else None

    def check_flatness(self):
        quarter = len(self.samples) // 4
        if quarter < 4:
            return
        # The first samples are the warm-up.
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        for place, name, slack in ((0, "memory in kB", 1024), (1, "file descriptors", 8)):
            first, last = (statistics.median(sample[place] for sample in part) for part in (early, late))
            print(f"{name}: {first:.0f} in the second quarter, {last:.0f} in the last")
            if last > first * 1.1 + slack:
                self.wrong.append(f"{name} rose from {first} to {last}")

    def run(self, minutes):
        stop = threading.Event()
        watches = [Watch(f"{self.url}/metrics", stop) for _ in range(2)]
        for watch in watches:
            watch.start()
        end, next_sample, events = time.monotonic() + 60 * minutes, 0, 0
        while time.monotonic() < end and self.exporter.poll() is None:
            self.misfortune()
            events += 1
            if time.monotonic() > next_sample:
                self.sample()
                next_sample = time.monotonic() + max(1, minutes)
            time.sleep(self.random.uniform(0, 0.4))
        self.clock(0)
        for index in range(ACCOUNTS):
            self.set(index)
        values = self.wait_for(self.recovered, "some account never recovered") or self.values()
        self.wait_for(self.counts, "the counts of requests never agreed")
        stop.set()
        for watch in watches:
            watch.join()
            self.wrong += watch.wrong
        polls = sum(value for (name, _), value in values.items() if name == "koodrive_polls_total")
        failures = {}
        for (name, labels), value in values.items():
            if name == "koodrive_poll_failures_total":
                reason = re.search(r'reason="(\w+)"', labels)[1]
                failures[reason] = failures.get(reason, 0) + int(value)
        if failures["internal"]:
            self.wrong.append("a poll panicked")
        scrapes = sum(watch.scrapes for watch in watches)
        print(f"{events} events, {self.pauses} of them pauses; {polls:.0f} polls, {scrapes} scrapes")
        print("requests counted by the simulator and by the exporter: {} and {}".format(*self.latest_counts))
        print("failures:", ", ".join(f"{reason} {count}" for reason, count in failures.items()))
        self.check_flatness()
        self.exporter.send_signal(signal.SIGTERM)
        if self.exporter.wait(timeout=PATIENCE) != 0:
            self.wrong.append(f"the exporter ended with {self.exporter.returncode}")
        self.log.flush()
        if "panicked" in (self.folder / "log").read_text():
            self.wrong.append("something panicked")

    def close(self):
        for process in (self.exporter, self.simulate):
            process.kill()
            process.wait()


def main():
    binary, minutes = sys.argv[1], float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(10**6)
    print(f"{minutes} minutes, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(binary, folder, seed)
        try:
            soak.run(minutes)
        finally:
            soak.close()
    for wrong in soak.wrong[:20]:
        print("WRONG:", wrong)
    print(f"soak: {'failed' if soak.wrong else 'all checks hold'}")
    sys.exit(bool(soak.wrong))


main()
