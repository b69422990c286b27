"""From the result of an alert's expression at each step to its notifications: `for`, `keep_firing_for`, inhibition."""

import dataclasses
import re

from accounts import STEP

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$')


def seconds(duration):
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(duration or "")))


@dataclasses.dataclass
class Episode:
    """An alert from where it starts to fire to where it is resolved."""

    labels: dict
    begin: int
    end: int
    notified: int | None = None

    @property
    def kind(self):
        return self.labels["alertname"], self.labels["severity"]


def episodes(rule, series, last):
    """What Prometheus' alerting rule does with its state, for each set of labels by itself."""
    active = {}
    for labels, samples in series:
        labels = {name: value for name, value in labels.items() if name != "__name__"}
        labels |= rule.get("labels", {}) | {"alertname": rule["alert"]}
        active.setdefault(tuple(sorted(labels.items())), set()).update(step for step, _ in samples)
    hold, keep = seconds(rule.get("for")), seconds(rule.get("keep_firing_for"))
    for labels, steps in active.items():
        since = firing = keeping = None
        for step in range(min(steps), last + 1):
            if step in steps and step < last:
                since, keeping = step if since is None else since, None
                if firing is None and (step - since) * STEP >= hold:
                    firing = step
            elif since is not None:
                if firing is not None and keep and step < last:
                    keeping = step if keeping is None else keeping
                    if (step - keeping) * STEP < keep:
                        continue
                if firing is not None:
                    yield Episode(dict(labels), firing, step)
                since = firing = keeping = None


def matches(matchers, labels):
    for name, operator, value in matchers:
        given = labels.get(name, "")
        met = re.fullmatch(value, given) is not None if "~" in operator else value == given
        if met == operator.startswith("!"):
            return False
    return True


def inhibit(all_episodes, rules):
    """Sets when each episode is first notified: at the first step that no inhibition mutes it at, or never."""
    muted = {}
    for rule in rules:
        source, target = ([MATCHER.match(one).groups() for one in rule[f"{side}_matchers"]] for side in ("source", "target"))
        sources = {}
        for episode in all_episodes:
            if matches(source, episode.labels):
                sources.setdefault(key(rule, episode), []).append(episode)
        for index, episode in enumerate(all_episodes):
            if matches(target, episode.labels):
                for other in sources.get(key(rule, episode), ()):
                    # As Alertmanager: what both sides match inhibits nothing that both sides match.
                    both = matches(source, episode.labels) and matches(target, other.labels)
                    if not both and other.begin < episode.end and episode.begin < other.end:
                        muted.setdefault(index, []).append((other.begin, other.end))
    for index, episode in enumerate(all_episodes):
        step = episode.begin
        for begin, end in sorted(muted.get(index, ())):
            if begin <= step < end:
                step = end
        episode.notified = step if step < episode.end else None


def key(rule, episode):
    return tuple(episode.labels.get(name, "") for name in rule.get("equal", ()))
