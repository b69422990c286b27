"""Writes the dashboard that stands beside this file.

Usage: generate.py [--check]     # with --check, only tells whether it is what this program would write
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


def default_threshold(name):
    """The one in the alerts' rules: a color has a fixed level, and an override of one account does not change it."""
    rules = (pathlib.Path(__file__).parent.parent / "prometheus" / "koodrive.rules.yml").read_text()
    return float(re.search(rf":{name}\)\n *or account:koodrive_known:info \* (\S+)", rules)[1])


FULLNESS = [
    (None, "green"),
    (default_threshold("space_usage_high_ratio"), "orange"),
    (default_threshold("space_almost_full_ratio"), "red"),
]
NO_GROWTH = 10000
# By name: the alerts of many accounts would cover the graphs. Only where one begins is marked.
FIRING = 'count by (alertname) (last_over_time(ALERTS{alertname=~"KooDrive.*",alertstate="firing",account=~"($account)?"}[1m]))'
DAYS_LEFT = [(None, "red"), (4, "orange"), (default_threshold("space_lead_time_days"), "green")]


ACCOUNT_LINK = {
    "title": "This account alone",
    "url": "/d/koodrive/koodrive?var-account=${__value.raw:percentencode}&${job:queryparam}&${datasource:queryparam}&${__url_time_range}",
}


def accounts_table():
    used, days = f"account:koodrive_space_used:ratio_last1d{{{ACCOUNTS}}}", f"account:koodrive_space_full:days{{{ACCOUNTS}}}"
    columns = [
        (f"0 * ({used} >= 1) or 1 * {days} or 0 * {used} + {NO_GROWTH}", "Days until full", "none", DAYS_LEFT, {"type": "color-text"}),
        (used, "Used", "percentunit", FULLNESS, {"type": "gauge", "mode": "basic"}),
        (f"account:koodrive_space_used_bytes:last1d{{{ACCOUNTS}}}", "Used bytes", "bytes", None, None),
        (f"account:koodrive_space_capacity_bytes:last1d{{{ACCOUNTS}}}", "Capacity", "bytes", None, None),
        (f"account:koodrive_space_free_bytes:last1d{{{ACCOUNTS}}}", "Free", "bytes", None, None),
        (f"account:koodrive_space_used_bytes:growth_per_day7d{{{ACCOUNTS}}}", "Growth a day", "bytes", None, None),
        (f"account:koodrive_up:max{{{ACCOUNTS}}}", "Polls", "none", GOOD_IS_ONE, {"type": "color-text"}),
        (f"account:koodrive_data_age_seconds:min{{{ACCOUNTS}}}", "Data age", "s", None, None),
    ]
    # Without names of metrics: rows that differ in one are not joined.
    targets = [target(f"1 * ({expr})", instant=True, format="table") for expr, *_ in columns]
    overrides = [column(f"Value #{ref}", *shown) for ref, (_, *shown) in zip("ABCDEFGH", columns)]
    growing = {"type": "range", "options": {"from": NO_GROWTH, "to": None, "result": {"text": "no growth", "index": 0, "color": "green"}}}
    overrides[0]["properties"] += [{"id": "mappings", "value": [growing]}, {"id": "decimals", "value": 1}]
    overrides[1]["properties"] += [{"id": "min", "value": 0}, {"id": "max", "value": 1}]
    overrides[6]["properties"].append({"id": "mappings", "value": [{"type": "value", "options": {"0": {"text": "failing", "index": 0}, "1": {"text": "good", "index": 1}}}]})
    overrides.append(
        {
            "matcher": {"id": "byName", "options": "account"},
            "properties": [{"id": "displayName", "value": "Account"}, {"id": "links", "value": [ACCOUNT_LINK]}],
        }
    )
    return panel(
        "table",
        "Which account will be full, and when",
        "Every account, by the newest data of the last day; the first is the first that will be full. Growth is a day's, by the last seven days without the one that grew most.",
        targets,
        (24, 9),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Days until full", "desc": False}]},
        overrides=overrides,
        # Rows are joined by all labels: the job, the account and others that the targets have.
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {"account": 0}, "renameByName": {"job": "Job"}}},
        ],
    )


def failing_table():
    return panel(
        "table",
        "Failing accounts",
        "Why the latest poll of each failing account failed. docs/metrics.md says what to look at for each reason.",
        [target(f"account:koodrive_poll_failure:info{{{ACCOUNTS}}}", instant=True, format="table")],
        (12, 6),
        defaults("none", [(None, "red")]),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "reason", "desc": False}]},
        overrides=[{"matcher": {"id": "byName", "options": "account"}, "properties": [{"id": "links", "value": [ACCOUNT_LINK]}]}],
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "Value": True, "__name__": True},
                    "indexByName": {"account": 0, "reason": 1, "job": 2},
                    "renameByName": {},
                },
            }
        ],
    )


def overview():
    used, capacity = "account:koodrive_space_used_bytes:max", "account:koodrive_space_capacity_bytes:max"
    yield stat("Accounts", "How many accounts are polled.", f"count(account:koodrive_up:max{{{ACCOUNTS}}})", "none", NEUTRAL)
    yield stat(
        "Accounts down",
        "Accounts whose latest poll failed at every exporter.",
        f"count(account:koodrive_up:max{{{ACCOUNTS}}} == 0) or 0 * count(account:koodrive_up:max{{{ACCOUNTS}}})",
        "none",
        [(None, "green"), (1, "red")],
    )
    yield stat(
        "Used of all",
        "What all accounts use together, of their capacity.",
        f"sum({used}{{{ACCOUNTS}}}) / sum({capacity}{{{ACCOUNTS}}})",
        "percentunit",
        FULLNESS,
        decimals=1,
    )
    yield stat("Fullest account", "The highest use of one account.", f"max(account:koodrive_space_used:ratio{{{ACCOUNTS}}})", "percentunit", FULLNESS, decimals=1)
    yield stat("Used", "What all accounts use together.", f"sum({used}{{{ACCOUNTS}}})", "bytes", NEUTRAL)
    yield stat("Capacity", "What all accounts have together.", f"sum({capacity}{{{ACCOUNTS}}})", "bytes", NEUTRAL)
    yield accounts_table()
    yield failing_table()
    yield panel(
        "table",
        "Firing alerts",
        "The alerts of this pack that fire now. Each name leads to its runbook.",
        [target('sort_desc(ALERTS{alertname=~"KooDrive.*",alertstate="firing"})', instant=True, format="table")],
        (12, 6),
        defaults("none", [(None, "red")]),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "severity", "desc": False}]},
        overrides=[
            {
                "matcher": {"id": "byName", "options": "alertname"},
                "properties": [
                    {"id": "displayName", "value": "Alert"},
                    {"id": "links", "value": [{"title": "Runbook", "url": RUNBOOKS + "/${__value.raw}.md", "targetBlank": True}]},
                ],
            }
        ],
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "Value": True, "__name__": True, "alertstate": True},
                    "indexByName": {"alertname": 0, "severity": 1, "account": 2, "instance": 3, "job": 4},
                    "renameByName": {},
                },
            }
        ],
    )


def account():
    """The row that is repeated for each account."""
    one = 'job=~"$job",account=~"$account"'
    used, capacity = f"account:koodrive_space_used_bytes:max{{{one}}}", f"account:koodrive_space_capacity_bytes:max{{{one}}}"
    allocated = f"account:koodrive_space_allocated_bytes:max{{{one}}}"
    yield stat("Used", "How full the account is.", f"account:koodrive_space_used:ratio{{{one}}}", "percentunit", FULLNESS, decimals=1, size=(3, 4))
    yield stat("Used", "What the account uses.", used, "bytes", NEUTRAL, size=(3, 4))
    yield stat("Capacity", "What the account has.", capacity, "bytes", NEUTRAL, size=(3, 4))
    yield stat("Allocated", "What the account has promised to its users.", allocated, "bytes", NEUTRAL, size=(3, 4))
    yield stat("Free", "What is left; below 0 where more is used than there is.", f"{capacity} - {used}", "bytes", [(None, "red"), (1, "green")], size=(3, 4))
    yield stat("Days until full", "If it goes on as in the last seven days, without the one that grew most. Nothing where it does not grow, or before a week is known.", f"account:koodrive_space_full:days{{{one}}}", "none", DAYS_LEFT, decimals=1, size=(3, 4))
    yield stat("Full on", "The date when it is full, if it goes on so.", f"(time() + 86400 * account:koodrive_space_full:days{{{one}}}) * 1000", "dateTimeAsIso", NEUTRAL, size=(6, 4))
    yield graph(
        "Space",
        "Used and allocated bytes, the levels from which alerts fire, and what will be used in 30 days by the growth of the last seven.",
        [
            target(used, "used"),
            target(allocated, "allocated"),
            target(capacity, "capacity"),
            target(f"{capacity} * account:koodrive_threshold:space_usage_high_ratio{{{one}}} < Inf", "usage high"),
            target(f"{capacity} * account:koodrive_threshold:space_almost_full_ratio{{{one}}} < Inf", "almost full"),
            target(f"{used} + 30 * account:koodrive_space_used_bytes:growth_per_day7d{{{one}}}", "in 30 days"),
        ],
        "bytes",
        overrides=[dashed("capacity", "red"), dashed("usage high", "yellow"), dashed("almost full", "orange"), dashed("in 30 days", "blue")],
        min=0,
    )
    yield graph(
        "Growth a day",
        "By how much the used bytes have grown in the last day, and on a day of the last seven without the one that grew most.",
        [
            target(f"account:koodrive_space_used_bytes:growth1d{{{one}}}", "last day"),
            target(f"account:koodrive_space_used_bytes:growth_per_day7d{{{one}}}", "a day of seven"),
        ],
        "bytes",
    )
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
        f"account:koodrive_users:ratio{{{one}}}",
        "percentunit",
        [(None, "green"), (0.95, "orange"), (1, "red")],
        size=(4, 7),
        decimals=1,
    )
    frozen = {"0": {"text": "normal", "index": 0}, "1": {"text": "frozen", "index": 1}}
    yield stat(
        "Service",
        "Whether the service is frozen, where the subscription is collected.",
        f"account:koodrive_service_frozen:max{{{one}}}",
        "none",
        [(None, "green"), (1, "red")],
        size=(4, 7),
        mappings=[{"type": "value", "options": frozen}],
    )
    yield stat(
        "Units in doubt",
        "How many configured units the usage contradicts, where it is collected.",
        f"sum(account:koodrive_units_doubtful:max{{{one}}})",
        "none",
        [(None, "green"), (1, "red")],
        size=(4, 7),
    )
    yield panel(
        "table",
        "As the API reports",
        "The API's own numbers, to compare the configured units with the console.",
        [target(f"max by (field) (koodrive_space_reported{{{BOTH}}})", instant=True, format="table")],
        (12, 5),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": []},
        transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}}],
    )
    yield panel(
        "state-timeline",
        "Polls",
        "Whether the latest poll succeeded, by exporter.",
        [target(f"koodrive_up{{{BOTH}}}", "{{instance}}")],
        (12, 5),
        defaults("none", GOOD_IS_ONE, mappings=[{"type": "value", "options": {"0": {"text": "down", "index": 0, "color": "red"}, "1": {"text": "up", "index": 1, "color": "green"}}}]),
        {"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}, "tooltip": {"mode": "single", "sort": "none"}},
    )
    yield graph(
        "Data age",
        "How old the newest good numbers are. The line is three intervals: from there the numbers count as stale.",
        [
            target(f"account:koodrive_data_age_seconds:min{{{one}}}", "age"),
            target(f"3 * account:koodrive_poll_interval_seconds:min{{{one}}}", "stale"),
        ],
        "s",
        size=(12, 5),
        overrides=[dashed("stale", "red")],
        min=0,
    )


def dashboard():
    panels, top = [], 0
    for title, content, others in (
        ("All accounts", overview(), {}),
        ("Account $account", account(), {"repeat": "account"}),
        ("Polls and the API", polls(), {}),
        ("The exporter", exporter(), {}),
    ):
        # The row of each account is closed until somebody looks at it: what is not shown asks nothing.
        collapsed = "repeat" in others
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
                annotation("Alerts", "red", f"{FIRING} unless {FIRING.replace('[1m]', '[1m] offset 5m')}", "{{alertname}}"),
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
