"""The 50 accounts: what they store at each step, and what will be stored if nobody intervenes.

Time is counted in steps of five minutes from a Monday, midnight. The first week is history, which no notification is
counted in; a month follows, and then the time that predictions are compared with. All numbers come from one seed.
"""

import bisect
import dataclasses
import random

STEP = 300
HOUR, DAY, WEEK = 12, 288, 2016
HISTORY, MONTH, AFTER = 7 * DAY, 30 * DAY, 65 * DAY
SHOWN = HISTORY + MONTH
ALL = SHOWN + AFTER
TB = 10**12
SIZES = (1, 2, 5, 10, 20, 50, 100)
NEVER = 10**9


def at(day, hour=0):
    """The step of a day of the month, which begins after the history."""
    return HISTORY + day * DAY + int(hour * HOUR)


def office(draw, rate):
    """`rate` on a working day, from 9 to 18 o'clock. Days differ, and so do the hours of one."""
    plan = [0.0] * ALL
    for day in range(ALL // DAY):
        if day % 7 < 5:
            volume = rate * draw.lognormvariate(-0.08, 0.4)
            for step in range(day * DAY + 9 * HOUR, day * DAY + 18 * HOUR):
                plan[step] = volume / (9 * HOUR) * draw.uniform(-0.2, 2.2)
    return plan


def steady(draw, rate):
    """`rate` a day, day and night."""
    return [rate / DAY * draw.uniform(0.5, 1.5) for _ in range(ALL)]


def weekly(draw, rate):
    """As in the office, and what a week has brought is deleted on Sunday from 2 to 3 o'clock."""
    plan = office(draw, rate)
    for week in range(0, ALL, WEEK):
        brought = sum(plan[week : week + WEEK])
        sunday = week + 6 * DAY + 2 * HOUR
        for step in range(sunday, min(sunday + HOUR, ALL)):
            plan[step] -= brought / HOUR
    return plan


def swinging(_, rate):
    """`rate` is added from 9 to 18 o'clock and deleted from 22 o'clock to midnight, every day."""
    plan = [0.0] * ALL
    for step in range(ALL):
        hour = step % DAY / HOUR
        plan[step] = rate / (9 * HOUR) if 9 <= hour < 18 else -rate / (2 * HOUR) if hour >= 22 else 0.0
    return plan


def running_wild(_, rate):
    """Nothing, and then `rate` a day."""
    return [rate / DAY if step >= at(24, 1) else 0.0 for step in range(ALL)]


def idle(_, __):
    return [0.0] * ALL


@dataclasses.dataclass
class Account:
    name: str
    capacity: list  # at each step
    used: list
    planned: list  # sum of the plan's growth until each step: without single uploads, clean-ups and further capacity
    allocated: float
    since: int = 0
    until: int = NEVER
    collectors: bool = False
    token_expires: tuple = (NEVER, NEVER)
    limited: tuple = (NEVER, NEVER)  # the API refuses four polls of five
    frozen: tuple = (NEVER, NEVER)
    users: list = dataclasses.field(default_factory=list)
    users_max: int = 1000
    allocated_later: tuple = (NEVER, 0)
    place: float = 0.0  # its offset within the interval

    def allocation(self, step):
        since, more = self.allocated_later
        return self.allocated + (more if step >= since else 0)

    def ratio(self, step):
        return self.used[step] / self.capacity[step]

    def days_left(self, step):
        """How long the plan takes from here to the capacity of today, in days."""
        target = self.capacity[step] - self.used[step] + self.planned[step]
        if self.grows_only:
            found = bisect.bisect_left(self.highest, target, lo=step)
        else:
            found = next((later for later in range(step, ALL) if self.planned[later] >= target), ALL)
        return (found - step) / DAY if found < ALL else float("inf")

    def __post_init__(self):
        self.highest, top = [], self.planned[0]
        for value in self.planned:
            top = max(top, value)
            self.highest.append(top)
        # Some files are deleted on every day; that does not make a plan that shrinks.
        self.grows_only = max(a - b for a, b in zip(self.highest, self.planned)) < 0.01 * self.capacity[0]


def account(draw, name, pattern, ratio, rate, size=None, single=(), capacity=(), stops_at=1.0, **other):
    """`ratio` of the capacity is used at first, `rate` of it comes a day; `single` are uploads and deletions as
    (from, to, part of the capacity), `capacity` are changes as (step, factor); uploads fail above `stops_at`."""
    bytes_at_first = (size or draw.choice(SIZES)) * TB
    plan = pattern(draw, rate * bytes_at_first)
    extra = [0.0] * ALL
    for begin, end, part in single:
        for step in range(begin, end):
            extra[step] += part * bytes_at_first / (end - begin)
    capacities, used, planned = [], [], []
    now, total, stored = float(bytes_at_first), 0.0, ratio * bytes_at_first
    factors = dict(capacity)
    for step in range(ALL):
        now *= factors.get(step, 1)
        total += plan[step]
        change = plan[step] + extra[step]
        stored = stored + change if change < 0 else max(stored, min(stored + change, now * stops_at))
        capacities.append(now)
        used.append(max(stored, 0.0))
        planned.append(total)
    return Account(name, capacities, used, planned, 0.9 * bytes_at_first, place=draw.random(), **other)


def accounts(seed=1):
    def make(name, *pattern, **other):
        # By its name, so that a further account does not change the others.
        return account(random.Random(f"{seed} {name}"), name, *pattern, **other)

    def within(low, high, name):
        return random.Random(f"{seed} {name}").uniform(low, high)

    made = [
        make(f"office-{n:02}", office, within(0.3, 0.75, f"used {n}"), within(0.001, 0.01, f"rate {n}"), collectors=n < 6)
        for n in range(10)
    ]
    made += [
        make(f"steady-{n:02}", steady, within(0.3, 0.75, f"used {n}"), within(0.0005, 0.007, f"rate {n}"))
        for n in range(10, 18)
    ]
    made += [make(f"idle-{n:02}", idle, ratio, 0.0, collectors=n == 0) for n, ratio in enumerate((0.02, 0.3, 0.5, 0.65, 0.8, 0.9))]
    made += [
        # Single uploads: of two hours, a night, and a migration of two days and a half.
        make("upload-00", office, 0.45, 0.001, single=[(at(3, 10), at(3, 12), 0.2)]),
        make("upload-01", steady, 0.64, 0.0005, single=[(at(8, 20), at(9, 6), 0.18)]),
        make("upload-02", office, 0.65, 0.001, single=[(at(16, 14), at(16, 15), 0.22)]),
        make("migration", office, 0.5, 0.001, 20, single=[(at(11, 18), at(14, 6), 0.4)]),
        # Clean-ups: at once, at night, over a day, of an account that is almost full.
        make("cleanup-00", office, 0.7, 0.002, single=[(at(5, 11), at(5, 12), -0.4)]),
        make("cleanup-01", steady, 0.6, 0.002, single=[(at(13, 1), at(13, 6), -0.3)]),
        make("cleanup-02", office, 0.75, 0.003, single=[(at(20, 8), at(20, 20), -0.35)]),
        make("cleanup-03", office, 0.9, 0.003, single=[(at(9, 16), at(9, 17), -0.3)]),
        make("weekly-00", weekly, 0.5, 0.06),
        make("swinging", swinging, 0.835, 0.03),
        # New ones: one fills within two days what it then keeps, one grows from the start.
        make("new-00", office, 0.0, 0.002, since=at(10, 9), single=[(at(10, 9), at(12, 9), 0.45)]),
        make("new-01", steady, 0.3, 0.01, since=at(15, 10)),
        # Capacity is to be ordered within the month.
        make("order", office, 0.5, 0.015),
        make("more-capacity-00", office, 0.8, 0.006, capacity=[(at(12, 11), 2.0)]),
        make("more-capacity-01", steady, 0.78, 0.008, capacity=[(at(18, 15), 1.5)]),
        # They become full: day and night, in office hours, by files that are too large for what is left.
        make("full-00", steady, 0.35, 0.03, 5),
        make("full-01", office, 0.40, 0.04, 10),
        make("full-02", steady, 0.6, 0.015, 50, stops_at=0.9998),
        make("runs-wild", running_wild, 0.3, 0.32),
        make("expiring-package", office, 0.55, 0.001, 10, capacity=[(at(17, 0), 0.5)]),
        make("token", office, 0.4, 0.001, token_expires=(at(6, 13), at(6, 14))),
        make("rate-limited", office, 0.3, 0.001, limited=(at(7, 9), at(7, 15))),
        make("frozen", idle, 0.4, 0.0, collectors=True, frozen=(at(22, 8), at(22, 14))),
        make("seats", office, 0.4, 0.001, collectors=True),
        make("over-allocated", office, 0.5, 0.001, 10, allocated_later=(at(12, 10), 1.5 * TB)),
        make("removed", office, 0.87, 0.001, until=at(19, 11)),
    ]
    for one in made:
        seats = one.name == "seats"
        one.users = [930 + min(step // DAY, 35) if seats else 500 for step in range(SHOWN)]
    return made
