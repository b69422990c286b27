"""A month of 50 accounts: how often does each alert notify, how often is that false, repeated or missing?

Usage: python3 tests/month [RULES_FOLDER]
       python3 tests/month --picture FILE.png     # draws the Grafana dashboard from the month; needs chromium

RULES_FOLDER has koodrive.rules.yml and koodrive.alerts.yml; it is deploy/prometheus unless given. It needs prometheus
and promtool.

What the accounts do is in accounts.py, what the exporter shows of them in exporter.py: both are simulated, and the same
in every run. A real Prometheus evaluates the rules at each step (prometheus.py). What its alerting rules and
Alertmanager's inhibitions make of that is in alerts.py, and when each condition is really true in truth.py.

A step is 5 minutes: the interval of polls and of scrapes, and Alertmanager's group_interval. So an alert may start up to
5 minutes later than in a Prometheus that evaluates more often, and what is over within 5 minutes is not seen.

- false: a notification while its condition does not hold;
- repeated: a further one for the same condition. A condition that comes back within a day is the same one;
- missed: a condition that was clear for an hour, and neither its alert nor a graver one of its name fired until then.

A condition shorter than the alert's `for` needs no notification, and one that an inhibition mutes has none.

The exit code is 1 where there is more of these than KNOWN allows or the table is not that of deploy/prometheus/README.md,
and 2 where rules read a metric that is not simulated.
"""

import collections
import contextlib
import gc
import pathlib
import re
import sys
import tempfile
import time

import yaml

import alerts
from accounts import DAY, HISTORY, SHOWN, STEP, accounts
from exporter import series
from picture import draw, fail_at_end
from prometheus import Prometheus, lines
from truth import conditions, truths, truths_of_job

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
SAME_CONDITION_WITHIN = DAY
GRAVER = {"info": ["warning", "critical"], "warning": ["critical"], "critical": []}
# Absent here, as where there are neither shards nor TLS.
ABSENT = {
    "koodrive_exporter_shard_info",
    "koodrive_exporter_tls_certificate_expiry_timestamp_seconds",
    "koodrive_exporter_web_config_last_reload_successful",
}
METRIC = re.compile(r"(?<![\w:])koodrive_\w+")
# What today's rules do, as {(alert, severity): (false, repeated, missed)}. Every run gives the same numbers, so that there
# is no margin: a change of the rules may only lower them.
KNOWN = {
    # No rule can know that a migration of days ends, or that each week is cleaned up.
    ("KooDriveSpaceFillingUp", "critical"): (2, 0, 0),
    ("KooDriveSpaceFillingUp", "warning"): (1, 0, 0),
    ("KooDriveSpaceFillingUp", "info"): (1, 0, 0),
}


def load(folder):
    def rules(name):
        return [rule for group in yaml.safe_load((folder / name).read_text())["groups"] for rule in group["rules"]]

    return rules("koodrive.rules.yml"), rules("koodrive.alerts.yml")


@contextlib.contextmanager
def simulated(records, alerting, made):
    """A real Prometheus that holds the month and what the recording rules make of it."""
    names = set(ABSENT)

    def samples():
        for one in series(made):
            names.add(one[0])
            yield lines(*one)

    with tempfile.TemporaryDirectory() as folder:
        prometheus = Prometheus(folder)
        try:
            prometheus.write(samples())
            read = {name for rule in records + alerting for name in METRIC.findall(rule["expr"])}
            if read - names:
                print(f"the rules read what is not simulated: {', '.join(sorted(read - names))}", file=sys.stderr)
                sys.exit(2)
            prometheus.record(records)
            yield prometheus
        finally:
            prometheus.stop()


def fire(prometheus, alerting):
    """Each episode of each alert, as a real Prometheus evaluates the rules."""
    results = prometheus.parallel(lambda rule: prometheus.query(rule["expr"]), alerting)
    return [one for rule, result in zip(alerting, results) for one in alerts.episodes(rule, result, SHOWN)]


def judge(episodes, made):
    """{(alert, severity): [conditions, notifications, false, repeated, missed]}, and a line for each fault."""
    counts, faults = collections.defaultdict(lambda: [0] * 5), collections.defaultdict(list)
    by_key = collections.defaultdict(list)
    for episode in episodes:
        by_key[episode.labels.get("account", ""), *episode.kind].append(episode)
    truth = {("", *kind): both for kind, both in truths_of_job().items()}
    truth |= {(account.name, *kind): both for account in made for kind, both in truths(account).items()}
    never = [False] * SHOWN

    def fault(column, kind, step, account):
        counts[kind][column] += 1
        faults[kind, column, step].append(account)

    for account, *kind in sorted(truth.keys() | by_key.keys()):
        kind = tuple(kind)
        holds, due = truth.get((account, *kind), (never, never))
        real = conditions(holds, SAME_CONDITION_WITHIN)
        own = sorted(by_key[account, *kind], key=lambda one: one.begin)
        counts[kind][0] += len(real)
        notified = collections.Counter()
        for episode in own:
            if episode.notified is None:
                continue
            condition = next((index for index, (begin, end) in enumerate(real) if begin <= episode.notified < end), None)
            true = holds[episode.notified]
            repeated = true and notified[condition]
            notified[condition] += true
            if episode.notified >= HISTORY:
                counts[kind][1] += 1
                if not true:
                    fault(2, kind, episode.notified, account)
                elif repeated:
                    fault(3, kind, episode.notified, account)
        graver = [one for severity in GRAVER[kind[1]] for one in by_key[account, kind[0], severity]]
        clear = conditions(due, 0)
        for begin, end in real:
            first = next((one for one in clear if begin <= one[0] < end), None)
            if first and not any(one.begin < first[1] and begin < one.end for one in own + graver):
                fault(4, kind, first[0], account)
    return counts, faults


def when(step):
    day, minute = divmod((step - HISTORY) * STEP // 60, 1440)
    return f"day {day} {minute // 60:02}:{minute % 60:02}"


def listed(faults):
    """A line for each alert, kind of fault and account, or accounts where they share the time."""
    times = collections.defaultdict(list)
    for (kind, column, step), names in sorted(faults.items()):
        times[kind, column, tuple(names)].append(when(step))
    for ((name, severity), column, names), steps in times.items():
        what = ("false", "repeated", "missed")[column - 2]
        more = f" and {len(steps) - 3} times more" if len(steps) > 3 else ""
        of = f", {len(names)} accounts: {', '.join(names)}" if any(names) else ""
        yield f"{name} {severity} {what} {', '.join(steps[:3])}{more}{of}"


def table(counts):
    columns = ["alert", "severity", "conditions", "notifications", "false", "repeated", "missed"]
    body = [[*kind, *row] for kind, row in sorted(counts.items()) if any(row)]
    body.append(["all", "", *(sum(column) for column in zip(*counts.values()))])
    return ["| " + " | ".join(map(str, row)) + " |" for row in [columns, ["---"] * len(columns), *body]]


def main():
    began = time.monotonic()
    # Nothing here has cycles, and millions of samples make collections slow.
    gc.disable()
    picture = sys.argv[2] if sys.argv[1:2] == ["--picture"] else None
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 and not picture else RULES
    made = accounts()
    if picture:
        fail_at_end(made)
    records, alerting = load(folder)
    with simulated(records, alerting, made) as prometheus:
        episodes = fire(prometheus, alerting)
        if picture:
            return draw(prometheus, episodes, picture)
    alerts.inhibit(episodes, yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())["inhibit_rules"])
    counts, faults = judge(episodes, made)
    for line in listed(faults):
        print(line)
    rows = table(counts)
    print("", *rows, "", f"{time.monotonic() - began:.0f} s", sep="\n")
    problems = [
        f"{kind[0]} {kind[1]}: {found} false, repeated, missed, and not {KNOWN.get(kind, (0, 0, 0))}"
        for kind, (_, _, *found) in sorted(counts.items())
        if any(now > known for now, known in zip(found, KNOWN.get(kind, (0, 0, 0))))
    ]
    if folder == RULES and not set(rows) <= set((RULES / "README.md").read_text().splitlines()):
        problems.append("the table in deploy/prometheus/README.md is not this one")
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
