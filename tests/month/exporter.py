"""What an exporter shows of the accounts at each scrape, while the API and the exporter itself have outages.

Polls follow src/poll/schedule.rs: an offset of its own within the interval, back-off from the fourth failure in a row
on, and numbers that vanish after three intervals. A scrape is made at each step; series that it lacks are absent there.
"""

import dataclasses

from accounts import DAY, HOUR, SHOWN, STEP, WEEK, at

# Starts on Monday, 2023-09-25 00:00 UTC: the month is within one block of the size that Prometheus makes of it.
START = 1695600000
INTERVAL = 300
STALE_AFTER = 3
COLLECTORS = {"usage": 900, "subscription": 3600}

# (from, to, reason, seconds that a poll takes)
API_OUTAGES = [
    (at(2, 14), at(2, 16), "connect", 1.5),
    (at(10, 9), at(10, 15), "timeout", 10.0),
    (at(20, 3), at(20, 5), "http_status", 1.6),
    (at(28, 11), at(28, 13), "timeout", 10.0),
]
# (from, to) in seconds: a restart of a minute a week, at a scrape; that of the second week is made in the outage.
RESTARTS = [(step * STEP - 40, step * STEP + 20) for step in (at(1, 10), at(10, 12), at(17, 15), at(24, 10))]
MAINTENANCE = [(at(19, 20) * STEP - 10, at(19, 21) * STEP - 10)]
DOWN = sorted(RESTARTS + MAINTENANCE)


def api_failure(account, second):
    """Why a poll at this moment fails, and how long it takes."""
    step = second / STEP
    for begin, end, reason, duration in API_OUTAGES:
        if begin <= step < end:
            return reason, duration
    begin, end = account.token_expires
    return ("auth", 0.3) if begin <= step < end else None


def is_down(step):
    return any(begin <= step * STEP < end for begin, end in DOWN)


@dataclasses.dataclass
class Poll:
    began: float
    ended: float
    failure: str | None
    next: float
    last_success: float | None  # when the newest good poll ended


def polls(account, interval, place, first_delay):
    """The polls of one collector of an account, by runs of the exporter."""
    starts = [0] + [end for _, end in DOWN]
    ends = [begin for begin, _ in DOWN] + [SHOWN * STEP]
    for start, end in zip(starts, ends):
        begin = max(start, account.since * STEP)
        due, failures, success, run = begin + first_delay, 0, None, []
        while due < min(end, account.until * STEP):
            failure, duration = api_failure(account, due) or (None, 0.4)
            ended = due + duration
            failures = failures + 1 if failure else 0
            success = success if failure else ended
            ticks = 1 if failures < 4 else min(2 ** (failures - 3), 3)
            first = start + interval * place
            tick = first if ended < first else ended + interval - (ended - first) % interval
            following = tick + interval * (ticks - 1)
            run.append(Poll(due, ended, failure, following, success))
            due = following
        yield start, end, run


def at_scrapes(account, interval, place, first_delay):
    """(step, second, latest finished poll or None) for each scrape that finds the account."""
    for start, end, run in polls(account, interval, place, first_delay):
        latest, coming = None, iter(run + [Poll(0, float("inf"), None, 0, None)])
        following = next(coming)
        for step in range(max(-(-start // STEP), account.since), min(-(-end // STEP), account.until, SHOWN)):
            while following.ended <= step * STEP:
                latest, following = following, next(coming)
            yield step, step * STEP, latest


def overview(account, index):
    """The families of an account's overview as {(name, labels): [(step, value)]}."""
    series = {}

    def add(step, name, value, **labels):
        series.setdefault((name, tuple(labels.items())), []).append((step, value))

    for step, second, poll in at_scrapes(account, INTERVAL, account.place, index * 0.01):
        add(step, "koodrive_poll_interval_seconds", INTERVAL)
        success = poll and poll.last_success
        add(step, "koodrive_poll_last_success_timestamp_seconds", round(START + success, 2) if success else 0)
        add(step, "koodrive_poll_last_attempt_timestamp_seconds", round(START + poll.began, 2) if poll else 0)
        if not poll:
            continue
        add(step, "koodrive_up", 0 if poll.failure else 1)
        add(step, "koodrive_poll_last_duration_seconds", round(poll.ended - poll.began, 2))
        add(step, "koodrive_poll_next_timestamp_seconds", round(START + poll.next, 2))
        if poll.failure:
            add(step, "koodrive_poll_failure_info", 1, reason=poll.failure)
        if not success:
            continue
        add(step, "koodrive_poll_last_success_age_seconds", round(second - success, 2))
        add(step, "koodrive_api_clock_skew_seconds", 0.2)
        if second - success <= STALE_AFTER * INTERVAL:
            seen = int(success // STEP)
            add(step, "koodrive_space_capacity_bytes", int(account.capacity[seen]))
            add(step, "koodrive_space_used_bytes", int(account.used[seen]))
            add(step, "koodrive_space_allocated_bytes", int(account.allocation(seen)))
    return series


def collector(account, name, index):
    """The families of a collector beside the overview."""
    series, interval = {}, COLLECTORS[name]

    def add(step, metric, value, **labels):
        series.setdefault((metric, tuple(labels.items())), []).append((step, value))

    for step, second, poll in at_scrapes(account, interval, (account.place * 7 + index) % 1, 1 + index * 0.01):
        if not poll:
            continue
        add(step, "koodrive_collector_up", 0 if poll.failure else 1, collector=name)
        if poll.failure:
            add(step, "koodrive_collector_failure_info", 1, collector=name, reason=poll.failure)
        if poll.last_success and second - poll.last_success <= STALE_AFTER * interval:
            seen = int(poll.last_success // STEP)
            if name == "usage":
                add(step, "koodrive_users", account.users[seen])
                add(step, "koodrive_users_max", account.users_max)
            else:
                begin, end = account.frozen
                add(step, "koodrive_service_frozen", 1 if begin <= seen < end else 0)
        if poll.last_success and name == "usage":
            add(step, "koodrive_units_doubtful", 0, field="totalUsed")
    return series


def series(accounts):
    """Every series of the target as (name, labels, [(step, value)])."""
    target = {"job": "koodrive", "instance": "exporter.example:10710"}
    yield "up", target, [(step, 0 if is_down(step) else 1) for step in range(SHOWN)]
    shown = [(step, 1) for step in range(SHOWN) if not is_down(step)]
    yield "koodrive_exporter_config_last_reload_successful", target, shown
    for index, account in enumerate(accounts):
        families = [overview(account, index)]
        families += [collector(account, name, index) for name in COLLECTORS if account.collectors]
        for family in families:
            for (name, labels), samples in family.items():
                yield name, target | {"account": account.name} | dict(labels), samples
