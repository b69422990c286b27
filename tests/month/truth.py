"""When the condition of each alert is true, by the accounts themselves and not by what the exporter shows.

`holds` decides whether a notification is false. It allows for what nobody can know earlier: 20 minutes for numbers of the
space and 10 for polls. `due` decides whether one was missed: the condition is clear, and has been for long enough.
"""

from accounts import DAY, HISTORY, HOUR, SHOWN
from exporter import API_OUTAGES, STEP, api_failure, is_down

LATE = 4
LATE_POLL = 2
GIB = 2**30
# A severity of KooDriveSpaceFillingUp: (days until it is full, ratio from which on it counts, `for` and an hour in steps)
FILLING_UP = {"critical": (1, 0.80, 18), "warning": (4, 0.60, 24), "info": (30, 0.60, 84)}


def widened(flags, by):
    """True at a step, and for `by` more."""
    left, wide = 0, []
    for flag in flags:
        left = by + 1 if flag else left - 1
        wide.append(left > 0)
    return wide


def lasting(flags, steps):
    """True where it has been for so many steps."""
    count, long = 0, []
    for flag in flags:
        count = count + 1 if flag else 0
        long.append(count > steps)
    return long


def highest(values, window):
    """The highest value of a window that ends at each step."""
    queue, top = [], []
    first = 0
    for step, value in enumerate(values):
        while len(queue) > first and values[queue[-1]] <= value:
            queue.pop()
        queue.append(step)
        while queue[first] < step - window:
            first += 1
        top.append(values[queue[first]])
    return top


DOWN_AT = [is_down(step) for step in range(SHOWN)]


def is_there(account):
    return [account.since <= step < account.until for step in range(SHOWN)]


def both(first, second):
    return [a and b for a, b in zip(first, second)]


def truths(account):
    """{(alert, severity): (holds, due)} of an account, at each step."""
    there, steps = is_there(account), range(SHOWN)
    failures = [api_failure(account, step * STEP) for step in steps]
    failing = [bool(failure) for failure in failures]
    seen = [here and not fails and not down for here, fails, down in zip(there, failing, DOWN_AT)]
    truth = {}

    def space(name, severity, flags, late=LATE, after=12):
        truth[name, severity] = widened(both(flags, there), late), lasting(both(flags, seen), after)

    ratio = [account.ratio(step) for step in steps]
    space("KooDriveSpaceFull", "critical", [one >= 1 for one in ratio])
    space("KooDriveSpaceAlmostFull", "critical", [one > 0.95 for one in ratio])
    space("KooDriveSpaceUsageHigh", "warning", [one > 0.85 for one in ratio])
    capacity, used = account.capacity[:SHOWN], account.used[:SHOWN]
    space("KooDriveCapacityDropped", "warning", [now < 0.95 * top for now, top in zip(capacity, highest(capacity, 3 * DAY))])
    used_top = highest(used, DAY)
    space("KooDriveUsageDroppedSharply", "warning", [now < 0.7 * top and top - now > GIB for now, top in zip(used, used_top)])
    space("KooDriveOverAllocated", "warning", [account.allocation(step) > account.capacity[step] for step in steps])
    if account.collectors:
        space("KooDriveSeatsAlmostUsed", "warning", [count / account.users_max > 0.95 for count in account.users], LATE + 3, 12)
        begin, end = account.frozen
        # The subscription is polled once an hour.
        space("KooDriveServiceFrozen", "critical", [begin <= step < end for step in steps], LATE + HOUR, 2 * HOUR)
        # Here a collector never fails alone.
        truth["KooDriveCollectorFailing", "warning"] = [False] * SHOWN, [False] * SHOWN
    left = [days for step in range(0, SHOWN, HOUR) for days in [account.days_left(step)] * HOUR]
    for severity, (days, floor, long) in FILLING_UP.items():
        # Before it has grown for so long, nobody can know.
        history = 2 * DAY if severity == "critical" else 8 * DAY
        truth["KooDriveSpaceFillingUp", severity] = (
            [one <= 2 * days for one in left],
            lasting(
                [
                    seen[step] and left[step] <= days / 2 and floor < ratio[step] <= 0.95
                    and step - account.since > history
                    and used[step] > used[step - DAY] and used[step - history + DAY] > used[step - history]
                    for step in steps
                ],
                long,
            ),
        )
    slow = [bool(failure) and failure[1] > 5 for failure in failures]
    refused = [bool(failure) and failure[0] == "auth" for failure in failures]
    for name, severity, flags in [
        ("KooDrivePollFailing", "warning", failing),
        ("KooDriveDataStale", "critical", [fails and not auth for fails, auth in zip(failing, refused)]),
        ("KooDriveAuthFailing", "critical", refused),
        ("KooDrivePollSlow", "warning", slow),
    ]:
        truth[name, severity] = widened(both(flags, there), LATE_POLL), lasting(both(flags, there), 9)
    gone = [not here and step >= account.until for step, here in zip(steps, there)]
    truth["KooDriveAccountGone", "warning"] = [is_gone and step < account.until + DAY for step, is_gone in zip(steps, gone)], [
        account.until + HOUR <= step < account.until + 2 * HOUR for step in steps
    ]
    return truth


def truths_of_job():
    """Those that have no account."""
    outage = [any(begin <= step < end for begin, end, _, _ in API_OUTAGES) for step in range(SHOWN)]
    return {
        ("KooDriveAccountsFailing", "critical"): (widened(outage, LATE_POLL), lasting(outage, 9)),
        ("KooDriveExporterDown", "critical"): (widened(DOWN_AT, 1), lasting(DOWN_AT, 3)),
    }


def conditions(flags, gap):
    """Intervals where it is true in the month; one that comes back within `gap` steps is the same one."""
    found = []
    for step in range(SHOWN):
        if flags[step]:
            if found and step - found[-1][1] <= gap:
                found[-1][1] = step + 1
            else:
                found.append([step, step + 1])
    return [one for one in found if one[1] > HISTORY]
