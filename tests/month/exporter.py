"""What an exporter shows of the accounts at each scrape, while the API and the exporter itself have outages.

Polls follow src/poll/schedule.rs: an offset of its own within the interval, back-off from the fourth failure in a row
on, and numbers that vanish after three intervals. A scrape is made at each step; series that it lacks are absent there.
"""

import dataclasses
import itertools
import random

from accounts import SHOWN, STEP, at

# Starts on Monday, 2023-09-25 00:00 UTC: the month is within one block of the size that Prometheus makes of it.
START = 1695600000
INTERVAL = 300
STALE_AFTER = 3
OVERVIEW = [
    "koodrive_poll_interval_seconds",
    "koodrive_poll_last_success_timestamp_seconds",
    "koodrive_poll_last_attempt_timestamp_seconds",
    "koodrive_up",
    "koodrive_poll_last_duration_seconds",
    "koodrive_poll_next_timestamp_seconds",
    "koodrive_poll_last_success_age_seconds",
    "koodrive_api_clock_skew_seconds",
    "koodrive_space_capacity_bytes",
    "koodrive_space_used_bytes",
    "koodrive_space_allocated_bytes",
]
COLLECTORS = {"usage": 900, "subscription": 3600}

# (from, to, reason, seconds that a poll takes)
API_OUTAGES = [
    (at(2, 14), at(2, 16), "connect", 1.5),
    (at(10, 9), at(10, 15), "timeout", 10.0),
    (at(20, 3), at(20, 5), "http_status", 1.6),
    (at(28, 11), at(28, 13), "timeout", 10.0),
]
# At one step in five, the API does not refuse an account that calls it too often.
UNLIMITED = {step for step in range(SHOWN) if random.Random(step).random() < 0.2}
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
    if begin <= step < end:
        return "auth", 0.3
    begin, end = account.limited
    return ("rate_limited", 0.3) if begin <= step < end and int(step) not in UNLIMITED else None


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
    """The families of an account's overview as (name, further labels, [(step, value)])."""
    families = {name: [] for name in OVERVIEW}
    (interval, success_at, attempt_at, up, duration, following, age, skew, capacity, used, allocated) = families.values()
    failures = {}
    for step, second, poll in at_scrapes(account, INTERVAL, account.place, index * 0.01):
        interval.append((step, INTERVAL))
        success = poll and poll.last_success
        success_at.append((step, round(START + success, 2) if success else 0))
        attempt_at.append((step, round(START + poll.began, 2) if poll else 0))
        if not poll:
            continue
        up.append((step, 0 if poll.failure else 1))
        duration.append((step, round(poll.ended - poll.began, 2)))
        following.append((step, round(START + poll.next, 2)))
        if poll.failure:
            failures.setdefault(poll.failure, []).append((step, 1))
        if not success:
            continue
        age.append((step, round(second - success, 2)))
        skew.append((step, 0.2))
        if second - success <= STALE_AFTER * INTERVAL:
            seen = int(success // STEP)
            capacity.append((step, int(account.capacity[seen])))
            used.append((step, int(account.used[seen])))
            allocated.append((step, int(account.allocation(seen))))
    yield from ((name, {}, samples) for name, samples in families.items())
    yield "koodrive_account_info", {"endpoint": "api.example", "auth_type": "token"}, [(step, 1) for step, _ in interval]
    yield from (("koodrive_poll_failure_info", {"reason": reason}, samples) for reason, samples in failures.items())


def collector(account, name, index):
    """The families of a collector beside the overview, as those of the overview."""
    interval, up, failures, doubtful, users, users_max, frozen = COLLECTORS[name], [], {}, [], [], [], []
    for step, second, poll in at_scrapes(account, interval, (account.place * 7 + index) % 1, 1 + index * 0.01):
        if not poll:
            continue
        up.append((step, 0 if poll.failure else 1))
        if poll.failure:
            failures.setdefault(poll.failure, []).append((step, 1))
        if not poll.last_success:
            continue
        doubtful.append((step, 0))
        if second - poll.last_success <= STALE_AFTER * interval:
            seen = int(poll.last_success // STEP)
            users.append((step, account.users[seen]))
            users_max.append((step, account.users_max))
            frozen.append((step, 1 if account.frozen[0] <= seen < account.frozen[1] else 0))
    yield "koodrive_collector_up", {"collector": name}, up
    for reason, samples in failures.items():
        yield "koodrive_collector_failure_info", {"collector": name, "reason": reason}, samples
    if name == "usage":
        yield "koodrive_units_doubtful", {"field": "totalUsed"}, doubtful
        yield "koodrive_users", {}, users
        yield "koodrive_users_max", {}, users_max
    else:
        yield "koodrive_service_frozen", {}, frozen


def series(accounts):
    """Every series of the target as (name, labels, [(step, value)])."""
    target = {"job": "koodrive", "instance": "exporter.example:10710"}
    yield "up", target, [(step, 0 if is_down(step) else 1) for step in range(SHOWN)]
    shown = [(step, 1) for step in range(SHOWN) if not is_down(step)]
    yield "koodrive_exporter_config_last_reload_successful", target, shown
    for index, account in enumerate(accounts):
        families = [overview(account, index)]
        families += [collector(account, name, index) for name in COLLECTORS if account.collectors]
        for name, labels, samples in itertools.chain(*families):
            yield name, target | {"account": account.name} | labels, samples
