"""Writes the dashboard that stands beside this file.

Usage: generate.py [--check]     # with --check, only checks whether it is what this program would write
"""

import json
import pathlib
import re
import sys

from exporter_rows import exporter, polls
from panels import (
    ACCOUNTS,
    BOTH,
    DATASOURCE,
    EXPORTERS,
    GOOD_IS_ONE,
    NEUTRAL,
    WIDTH,
    annotation,
    column,
    dashed,
    default_threshold,
    defaults,
    graph,
    panel,
    placed,
    stat,
    target,
    variable,
)

PATH = pathlib.Path(__file__).parent / "dashboards" / "koodrive.json"
RUNBOOKS = "https://runbooks.example/koodrive"


FULLNESS = [
    (None, "green"),
    (default_threshold("space_usage_high_ratio"), "orange"),
    (default_threshold("space_almost_full_ratio"), "red"),
]
# From here the critical KooDriveSpaceFillingUp counts.
PACE = [(None, "red"), (1, "text")]
NO_GROWTH = 10000
NEVER = 10**10
# Annotations are those of all chosen accounts in every graph: where each alert is a band, fifty accounts paint it red.
CRITICAL = 'ALERTS{alertname=~"KooDrive.*",alertstate="firing",severity="critical",job=~"($job)?",account=~"($account)?"}'
SEVERITIES = [("critical", "red"), ("warning", "orange"), ("info", "blue")]
DAYS_LEFT = [(None, "red"), (4, "orange"), (default_threshold("space_lead_time_days"), "green")]


# Of a row, with the row's own job.
ACCOUNT_LINK = {
    "title": "This account alone",
    "url": "/d/koodrive/koodrive?var-account=${__value.raw:percentencode}&var-job=${__data.fields.Job:percentencode}&${datasource:queryparam}&${__url_time_range}",
}


def linked(name, title, link):
    """The override of a column whose cells lead elsewhere."""
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "displayName", "value": title}, {"id": "links", "value": [link]}]}


def accounts_table():
    used, days = f"account:koodrive_space_used:ratio_last1d{{{ACCOUNTS}}}", f"account:koodrive_space_full:days{{{ACCOUNTS}}}"
    free = f"account:koodrive_space_free_bytes:last1d{{{ACCOUNTS}}}"
    columns = [
        (f"0 * ({used} >= 1) or {days} or 0 * {used} + {NO_GROWTH}", "Days until full", "none", DAYS_LEFT, {"type": "color-text"}),
        (used, "Used", "percentunit", FULLNESS, {"type": "gauge", "mode": "basic"}),
        (free, "Free", "bytes", None, None),
        (f"account:koodrive_space_capacity_bytes:last1d{{{ACCOUNTS}}}", "Capacity", "bytes", None, None),
        (f"account:koodrive_space_used_bytes:growth_per_day7d{{{ACCOUNTS}}}", "Growth a day", "bytes", None, None),
        (f"{free} / (account:koodrive_space_used_bytes:growth1d{{{ACCOUNTS}}} > 0)", "Days at last day's pace", "none", PACE, {"type": "color-text"}),
        (f"account:koodrive_up:max{{{ACCOUNTS}}}", "Polls", "none", GOOD_IS_ONE, {"type": "color-text"}),
        (f"account:koodrive_data_age_seconds:min{{{ACCOUNTS}}}", "Data age", "s", None, None),
    ]
    targets = [target(expr, instant=True, format="table") for expr, *_ in columns]
    values = [f"Value #{ref}" for ref in "ABCDEFGH"]
    overrides = [column(value, *shown) for value, (_, *shown) in zip(values, columns)]
    growing = {"type": "range", "options": {"from": NO_GROWTH, "to": None, "result": {"text": "no growth", "index": 0, "color": "green"}}}
    overrides[0]["properties"] += [{"id": "mappings", "value": [growing]}, {"id": "decimals", "value": 1}]
    overrides[1]["properties"] += [{"id": "min", "value": 0}, {"id": "max", "value": 1}]
    overrides[5]["properties"].append({"id": "decimals", "value": 1})
    overrides[6]["properties"].append({"id": "mappings", "value": [{"type": "value", "options": {"0": {"text": "failing", "index": 0}, "1": {"text": "good", "index": 1}}}]})
    overrides.append(linked("account", "Account", ACCOUNT_LINK))
    order = {name: place for place, name in enumerate(["account", *values, "job"])}
    return panel(
        "table",
        "Which account will be full, and when",
        "Every account, by the newest data of the last day; the first is the first that will be full. Growth is a day's, by the last seven days without the one that grew most; an account that began to grow fast today shows only in the pace of the last day.",
        targets,
        (24, 9),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Days until full", "desc": False}]},
        overrides=overrides,
        # Rows are joined by all labels: the job, the account and others that the targets have. A metric's name is a label
        # too, and would keep the rows of one account apart.
        transformations=[
            {"id": "filterFieldsByName", "options": {"exclude": {"names": ["Time", "__name__"]}}},
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {}, "indexByName": order, "renameByName": {"job": "Job"}}},
        ],
    )


def failing_table():
    failing = f"account:koodrive_poll_failure:info{{{ACCOUNTS}}}"
    age = column("Value", "Data age", "s")
    age["properties"].append({"id": "mappings", "value": [{"type": "range", "options": {"from": NEVER, "to": None, "result": {"text": "no data yet", "index": 0}}}]})
    return panel(
        "table",
        "Failing accounts",
        "Why the latest poll of each failing account failed, and how old its newest good numbers are. docs/metrics.md says what to look at for each reason.",
        [target(f"{failing} * ignoring (reason) group_left () account:koodrive_data_age_seconds:min{{{ACCOUNTS}}} or {failing} * {NEVER}", instant=True, format="table")],
        (10, 8),
        defaults("none", [(None, "red")], noValue="No account fails"),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Data age", "desc": True}]},
        overrides=[linked("account", "Account", ACCOUNT_LINK), age],
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "__name__": True},
                    "indexByName": {"account": 0, "reason": 1, "Value": 2, "job": 3},
                    "renameByName": {"reason": "Reason", "job": "Job"},
                },
            }
        ],
    )


def alerts_table():
    firing = [f'ALERTS{{alertname=~"KooDrive.*",alertstate="firing",severity="{severity}",job=~"($job)?",account=~"($account)?"}} * {grade}' for grade, (severity, _) in enumerate(SEVERITIES, 1)]
    severity = column("Value", "Severity", "none", [(None, "text")], {"type": "color-text"})
    texts = {str(grade): {"text": name, "index": grade - 1, "color": color} for grade, (name, color) in enumerate(SEVERITIES, 1)}
    severity["properties"].append({"id": "mappings", "value": [{"type": "value", "options": texts}]})
    return panel(
        "table",
        "Firing alerts",
        "The alerts of this pack that fire now, critical ones first. Each name leads to its runbook.",
        [target(" or ".join(firing), instant=True, format="table")],
        (14, 8),
        defaults("none", [(None, "red")], noValue="No alert fires"),
        # By the number of the severity: their names sort info before warning.
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Severity", "desc": False}]},
        overrides=[severity, linked("alertname", "Alert", {"title": "Runbook", "url": RUNBOOKS + "/${__value.raw}.md", "targetBlank": True})],
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "__name__": True, "alertstate": True, "severity": True},
                    "indexByName": {"Value": 0, "alertname": 1, "account": 2, "instance": 3, "job": 4},
                    "renameByName": {"account": "Account", "instance": "Exporter", "job": "Job"},
                },
            }
        ],
    )


def overview():
    used, capacity = f"account:koodrive_space_used_bytes:last1d{{{ACCOUNTS}}}", f"account:koodrive_space_capacity_bytes:last1d{{{ACCOUNTS}}}"
    ratio, days = f"account:koodrive_space_used:ratio_last1d{{{ACCOUNTS}}}", f"account:koodrive_space_full:days{{{ACCOUNTS}}}"
    up = f"account:koodrive_up:max{{{ACCOUNTS}}}"
    none_is_good = [(None, "green"), (1, "red")]

    def number(title, description, condition, steps):
        return stat(title, description, f"count({condition}) or 0 * count({up})", "none", steps, size=(3, 4))

    # By the newest data of the last day: an outage of the API must not hide which account is full.
    yield stat("Accounts", "How many accounts are polled.", f"count({up})", "none", NEUTRAL, size=(3, 4))
    yield number("Accounts down", "Accounts whose latest poll failed at every exporter.", f"{up} == 0", none_is_good)
    yield number("Almost full", "Accounts above the threshold of KooDriveSpaceAlmostFull, by the newest data of the last day.", f"{ratio} >= account:koodrive_threshold:space_almost_full_ratio{{{ACCOUNTS}}}", none_is_good)
    yield number("Full in lead time", "Accounts that will be full within their lead time, which is 30 days unless you set another.", f"{days} < account:koodrive_threshold:space_lead_time_days{{{ACCOUNTS}}}", [(None, "green"), (1, "orange")])
    yield stat("Fullest account", "The highest use of one account.", f"max({ratio})", "percentunit", FULLNESS, size=(3, 4), decimals=1)
    yield stat("Used of all", "What all accounts use together, of their capacity.", f"sum({used}) / sum({capacity})", "percentunit", FULLNESS, size=(3, 4), decimals=1)
    yield stat("Used bytes", "What all accounts use together.", f"sum({used})", "bytes", NEUTRAL, size=(3, 4))
    yield stat("Capacity", "What all accounts have together.", f"sum({capacity})", "bytes", NEUTRAL, size=(3, 4))
    yield accounts_table()
    yield failing_table()
    yield alerts_table()


def account():
    """The row that is repeated for each account."""
    used, capacity = f"account:koodrive_space_used_bytes:max{{{ACCOUNTS}}}", f"account:koodrive_space_capacity_bytes:max{{{ACCOUNTS}}}"
    allocated = f"account:koodrive_space_allocated_bytes:max{{{ACCOUNTS}}}"
    yield stat("Used", "How full the account is.", f"account:koodrive_space_used:ratio_last1d{{{ACCOUNTS}}}", "percentunit", FULLNESS, size=(3, 4), decimals=1)
    yield stat("Days until full", "If it goes on as in the last seven days, without the one that grew most. Nothing where it does not grow, or before a week is known.", f"0 * (account:koodrive_space_used:ratio_last1d{{{ACCOUNTS}}} >= 1) or account:koodrive_space_full:days{{{ACCOUNTS}}}", "none", DAYS_LEFT, size=(3, 4), decimals=1, noValue="no growth")
    yield stat("Full on", "The date when it is full, if it goes on so.", f"(time() + 86400 * account:koodrive_space_full:days{{{ACCOUNTS}}}) * 1000", "time:YYYY-MM-DD", NEUTRAL, size=(3, 4), noValue="no growth")
    yield stat("Used bytes", "What the account uses.", f"account:koodrive_space_used_bytes:last1d{{{ACCOUNTS}}}", "bytes", NEUTRAL, size=(3, 4))
    yield stat("Free", "What is left.", f"account:koodrive_space_free_bytes:last1d{{{ACCOUNTS}}}", "bytes", [(None, "red"), (1, "green")], size=(3, 4))
    yield stat("Capacity", "What the account has.", f"account:koodrive_space_capacity_bytes:last1d{{{ACCOUNTS}}}", "bytes", NEUTRAL, size=(3, 4))
    yield stat("Allocated", "What the account has promised to its users.", f"last_over_time({allocated}[1d])", "bytes", NEUTRAL, size=(3, 4))
    yield stat("Data age", "How old these numbers are.", f"account:koodrive_data_age_seconds:min{{{ACCOUNTS}}}", "s", NEUTRAL, size=(3, 4))
    yield graph(
        "Space",
        "Used and allocated bytes, the levels from which alerts fire, and what will be used in 30 days by the growth of the last seven.",
        [
            target(used, "used"),
            target(allocated, "allocated"),
            target(capacity, "capacity"),
            target(f"{capacity} * account:koodrive_threshold:space_usage_high_ratio{{{ACCOUNTS}}} < Inf", "usage high"),
            target(f"{capacity} * account:koodrive_threshold:space_almost_full_ratio{{{ACCOUNTS}}} < Inf", "almost full"),
            target(f"{used} + 30 * account:koodrive_space_used_bytes:growth_per_day7d{{{ACCOUNTS}}}", "in 30 days"),
        ],
        "bytes",
        size=(12, 12),
        overrides=[dashed("capacity", "red"), dashed("usage high", "yellow"), dashed("almost full", "orange"), dashed("in 30 days", "blue")],
        min=0,
    )
    yield graph(
        "Growth a day",
        "By how much the used bytes have grown in the last day, and on a day of the last seven without the one that grew most.",
        [
            target(f"account:koodrive_space_used_bytes:growth1d{{{ACCOUNTS}}}", "last day"),
            target(f"account:koodrive_space_used_bytes:growth_per_day7d{{{ACCOUNTS}}}", "a day of seven"),
        ],
        "bytes",
        size=(12, 12),
    )
    yield panel(
        "state-timeline",
        "Polls",
        "Whether the latest poll succeeded, by exporter.",
        [target(f"koodrive_up{{{BOTH}}}", "{{instance}}")],
        (8, 6),
        defaults("none", GOOD_IS_ONE, mappings=[{"type": "value", "options": {"0": {"text": "down", "index": 0, "color": "red"}, "1": {"text": "up", "index": 1, "color": "green"}}}]),
        {"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}, "tooltip": {"mode": "single", "sort": "none"}},
    )
    yield graph(
        "Data age",
        "How old the newest good numbers are. The line is three intervals: from there the numbers count as stale.",
        [
            target(f"account:koodrive_data_age_seconds:min{{{ACCOUNTS}}}", "age"),
            target(f"3 * account:koodrive_poll_interval_seconds:min{{{ACCOUNTS}}}", "stale"),
        ],
        "s",
        size=(8, 6),
        overrides=[dashed("stale", "red")],
        min=0,
    )
    yield panel(
        "table",
        "As the API reports",
        "The API's own numbers, to compare the configured units with the console.",
        [target(f"max by (field) (koodrive_space_reported{{{BOTH}}})", instant=True, format="table")],
        (8, 6),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": []},
        transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}}],
    )
    # What only some accounts collect comes last.
    yield graph(
        "Used by kind of space",
        "What individuals, departments and groups use, where the usage is collected.",
        [target(f"max by (kind) (koodrive_kind_used_bytes{{{BOTH}}})", "{{kind}}")],
        "bytes",
        size=(12, 7),
        stacked=True,
        min=0,
    )
    yield stat(
        "Seats used",
        "Users that were created, of those that the subscription allows, where the usage is collected.",
        f"account:koodrive_users:ratio{{{ACCOUNTS}}}",
        "percentunit",
        [(None, "green"), (default_threshold("seats_almost_used_ratio"), "orange"), (1, "red")],
        size=(4, 7),
        decimals=1,
    )
    frozen = {"0": {"text": "normal", "index": 0}, "1": {"text": "frozen", "index": 1}}
    yield stat(
        "Service",
        "Whether the service is frozen, where the subscription is collected.",
        f"account:koodrive_service_frozen:max{{{ACCOUNTS}}}",
        "none",
        [(None, "green"), (1, "red")],
        size=(4, 7),
        mappings=[{"type": "value", "options": frozen}],
    )
    yield stat(
        "Units in doubt",
        "How many configured units the usage contradicts, where it is collected.",
        f"sum(account:koodrive_units_doubtful:max{{{ACCOUNTS}}})",
        "none",
        [(None, "green"), (1, "red")],
        size=(4, 7),
    )


def dashboard():
    panels, top = [], 0
    # The rows of the accounts come last: below fifty of them, nobody would find another one.
    for title, content, others in (
        ("All accounts", overview(), {}),
        ("Polls and the API", polls(), {}),
        ("The exporter", exporter(), {}),
        ("Account $account", account(), {"repeat": "account"}),
    ):
        # All others are closed until somebody looks at them: what is not shown asks nothing.
        collapsed = bool(panels)
        row = {"type": "row", "title": title, "collapsed": collapsed, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}}
        inside, below = placed(list(content), top + 1)
        panels += [row | others | {"panels": inside}] if collapsed else [row | others | {"panels": []}, *inside]
        top = top + 1 if collapsed else below
    for number, each in enumerate([inner for each in panels for inner in (each, *each.get("panels", []))], 1):
        each["id"] = number
    return {
        "uid": "koodrive",
        "title": "KooDrive",
        "description": "Space usage of Huawei Cloud KooDrive, by koodrive-exporter.",
        "tags": ["koodrive"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "5m",
        "schemaVersion": 39,
        "time": {"from": "now-30d", "to": "now"},
        "links": [
            {
                "type": "link",
                "title": "Runbooks",
                "url": RUNBOOKS,
                "icon": "doc",
                "tooltip": "What to do for each alert",
                "tags": [],
                "asDropdown": False,
                "targetBlank": True,
                "includeVars": False,
                "keepTime": False,
            }
        ],
        "annotations": {
            "list": [
                annotation("Alerts", "red", f"{CRITICAL} unless {CRITICAL} offset 5m", "{{alertname}} {{account}}"),
                annotation("Restarts", "blue", f"process_start_time_seconds{{{EXPORTERS}}} * 1000", "restart of {{instance}}", at_value=True),
                annotation(
                    "Reloads",
                    "green",
                    f"koodrive_exporter_config_last_reload_success_timestamp_seconds{{{EXPORTERS}}} * 1000",
                    "reload of {{instance}}",
                    at_value=True,
                ),
            ]
        },
        "templating": {
            "list": [
                {
                    "type": "datasource",
                    "name": "datasource",
                    "label": "Data source",
                    "query": "prometheus",
                    "refresh": 1,
                    "multi": False,
                    "includeAll": False,
                    "current": {"selected": False, "text": "default", "value": "default"},
                    "options": [],
                },
                variable("job", "Job", "koodrive_exporter_build_info", label_of="job"),
                variable("instance", "Exporter", 'koodrive_exporter_build_info{job=~"$job"}', label_of="instance"),
                variable("account", "Account", 'koodrive_up{job=~"$job"}', label_of="account"),
            ]
        },
        "panels": panels,
    }


def main():
    written = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["--check"]:
        if PATH.read_text() != written:
            sys.exit(f"{PATH} is not what {__file__} writes: run it")
    else:
        PATH.parent.mkdir(exist_ok=True)
        PATH.write_text(written)


if __name__ == "__main__":
    main()
