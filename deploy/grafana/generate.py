"""Writes the dashboard that stands beside this file.

Usage: generate.py [--check]     # with --check, only tells whether it is what this program would write
"""

import json
import pathlib
import sys

PATH = pathlib.Path(__file__).parent / "dashboards" / "koodrive.json"
RUNBOOKS = "https://runbooks.example/koodrive"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

# What the variables choose: accounts by the recorded series, and exporters one by one.
ACCOUNTS = 'job=~"$job",account=~"$account"'
EXPORTERS = 'job=~"$job",instance=~"$instance"'
BOTH = f"{EXPORTERS},account=~\"$account\""

FULLNESS = [(None, "green"), (0.85, "orange"), (0.95, "red")]
DAYS_LEFT = [(None, "red"), (1, "orange"), (4, "green")]
GOOD_IS_ONE = [(None, "red"), (1, "green")]
NEUTRAL = [(None, "blue")]


def target(expr, legend="", *, instant=False, format="time_series", ref="A"):
    query = {"refId": ref, "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "format": format}
    return query | ({"instant": True, "range": False} if instant else {"instant": False, "range": True})


def thresholds(steps):
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def defaults(unit, steps, **others):
    return {"unit": unit, "thresholds": thresholds(steps), "color": {"mode": "thresholds"}} | others


def panel(kind, title, description, targets, size, field, options, **others):
    """A panel, without its place yet."""
    for ref, query in zip("ABCDEFGH", targets):
        query["refId"] = ref
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": field, "overrides": others.pop("overrides", [])},
        "options": options,
        "size": size,
    } | others


def stat(title, description, expr, unit, steps, *, size=(4, 4), **field):
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
    }
    return panel("stat", title, description, [target(expr, instant=True)], size, defaults(unit, steps, **field), options)


def graph(title, description, targets, unit, *, steps=NEUTRAL, size=(12, 8), stacked=False, overrides=(), **field):
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 10,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"},
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    settings = defaults(unit, steps, custom=custom, **field) | {"color": {"mode": "palette-classic"}}
    return panel("timeseries", title, description, targets, size, settings, options, overrides=list(overrides))


def dashed(name, color):
    style = {"lineStyle": {"fill": "dash", "dash": [10, 10]}, "fillOpacity": 0, "lineWidth": 2}
    properties = [{"id": f"custom.{key}", "value": value} for key, value in style.items()]
    properties.append({"id": "color", "value": {"mode": "fixed", "fixedColor": color}})
    return {"matcher": {"id": "byRegexp", "options": name}, "properties": properties}


def column(name, title, unit, steps=None, cell=None):
    properties = [{"id": "displayName", "value": title}, {"id": "unit", "value": unit}]
    if steps:
        properties += [{"id": "thresholds", "value": thresholds(steps)}, {"id": "color", "value": {"mode": "thresholds"}}]
    if cell:
        properties.append({"id": "custom.cellOptions", "value": cell})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def days_until_full(labels):
    """Where it grows: what is left, by the growth of seven days."""
    return f"account:koodrive_space_full:days{{{labels}}}"


def accounts_table():
    queries = {
        "account:koodrive_space_used:ratio": "used",
        "account:koodrive_space_used_bytes:max": "bytes",
        "account:koodrive_space_capacity_bytes:max": "capacity",
        "account:koodrive_space_allocated:ratio": "allocated",
        "account:koodrive_data_age_seconds:min": "age",
        "account:koodrive_up:max": "up",
    }
    targets = [target(f"{name}{{{ACCOUNTS}}}", instant=True, format="table") for name in queries]
    targets.append(target(days_until_full(ACCOUNTS), instant=True, format="table"))
    bar = {"type": "gauge", "mode": "basic"}
    colored = {"type": "color-text"}
    up = [{"type": "value", "options": {"0": {"text": "down", "index": 0}, "1": {"text": "up", "index": 1}}}]
    columns = [
        column("Value #A", "Used", "percentunit", FULLNESS, bar),
        column("Value #B", "Used bytes", "bytes"),
        column("Value #C", "Capacity", "bytes"),
        column("Value #D", "Allocated", "percentunit", [(None, "green"), (1.000001, "orange")], colored),
        column("Value #E", "Data age", "s"),
        column("Value #F", "Polls", "none", GOOD_IS_ONE, colored),
        column("Value #G", "Days until full", "none", DAYS_LEFT, colored),
    ]
    columns[0]["properties"] += [{"id": "min", "value": 0}, {"id": "max", "value": 1}]
    columns[5]["properties"].append({"id": "mappings", "value": up})
    columns[6]["properties"].append({"id": "decimals", "value": 1})
    link = [{"title": "This account alone", "url": "/d/koodrive/koodrive?var-account=${__value.raw:percentencode}"}]
    columns.append(
        {
            "matcher": {"id": "byName", "options": "account"},
            "properties": [{"id": "displayName", "value": "Account"}, {"id": "links", "value": link}],
        }
    )
    hidden = {"Time": True, "job": True, "__name__": True}
    return panel(
        "table",
        "Accounts by fullness",
        "Every account, the fullest first. An account whose numbers are too old has no space to show.",
        targets,
        (24, 8),
        defaults("none", NEUTRAL),
        {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Used", "desc": True}]},
        overrides=columns,
        transformations=[
            {"id": "joinByField", "options": {"byField": "account", "mode": "outer"}},
            {"id": "filterFieldsByName", "options": {"include": {"pattern": "^(account|Value #.)$"}}},
            {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": {}}},
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
    yield panel(
        "table",
        "Firing alerts",
        "The alerts of this pack that fire now. Each name leads to its runbook.",
        [target('sort_desc(ALERTS{alertname=~"KooDrive.*",alertstate="firing"})', instant=True, format="table")],
        (24, 6),
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
    yield stat("Used", "How full the account is.", f"account:koodrive_space_used:ratio{{{one}}}", "percentunit", FULLNESS, decimals=1)
    yield stat("Used", "What the account uses.", used, "bytes", NEUTRAL)
    yield stat("Capacity", "What the account has.", capacity, "bytes", NEUTRAL)
    yield stat("Allocated", "What the account has promised to its users.", allocated, "bytes", NEUTRAL)
    yield stat("Free", "What is left; below 0 where more is used than there is.", f"{capacity} - {used}", "bytes", [(None, "red"), (1, "green")])
    yield stat("Days until full", "If it goes on as in the last seven days, without the one that grew most. Nothing where it does not grow, or before a week is known.", days_until_full(one), "none", DAYS_LEFT, decimals=1)
    yield graph(
        "Space",
        "Used and allocated bytes under the line of the capacity.",
        [target(used, "used"), target(allocated, "allocated"), target(capacity, "capacity")],
        "bytes",
        overrides=[dashed("capacity", "red")],
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


def polls():
    yield graph(
        "Failures by reason",
        "Failed polls per minute, by reason. docs/metrics.md says what to look at for each.",
        [target(f"sum by (reason) (rate(koodrive_poll_failures_total{{{BOTH}}}[$__rate_interval])) * 60 > 0", "{{reason}}")],
        "none",
        size=(8, 8),
        stacked=True,
        min=0,
    )
    histogram = f"sum by (le) (rate(koodrive_exporter_poll_duration_seconds_bucket{{{EXPORTERS}}}[$__rate_interval]))"
    yield graph(
        "Poll duration",
        "How long polls take, retries included: half, nine of ten, and all but one of a hundred are quicker. The line is where PollSlow begins.",
        [target(f"histogram_quantile({quantile}, {histogram})", f"p{round(100 * quantile)}") for quantile in (0.5, 0.9, 0.99)],
        "s",
        steps=[(None, "green"), (5, "red")],
        size=(8, 8),
        min=0,
    )
    yield graph(
        "API requests by code",
        "HTTP requests to the API per minute, by the class of the answer's status; none is without an answer.",
        [target(f"sum by (code) (rate(koodrive_exporter_api_requests_total{{{EXPORTERS}}}[$__rate_interval])) * 60", "{{code}}")],
        "none",
        size=(8, 8),
        stacked=True,
        min=0,
    )
    yield graph(
        "Clock skew",
        "The exporter's clock minus the API's. The exporter allows for it; beyond a minute the host's clock needs care.",
        [target(f"koodrive_api_clock_skew_seconds{{{BOTH}}}", "{{account}} by {{instance}}")],
        "s",
        steps=[(None, "red"), (-60, "green"), (60, "red")],
    )
    yield graph(
        "Duration of the latest poll",
        "By account and exporter, retries included.",
        [target(f"koodrive_poll_last_duration_seconds{{{BOTH}}}", "{{account}} by {{instance}}")],
        "s",
        min=0,
    )


def exporter():
    yield graph("Memory", "Resident memory of each exporter.", [target(f"process_resident_memory_bytes{{{EXPORTERS}}}", "{{instance}}")], "bytes", size=(8, 7), min=0)
    yield graph("CPU", "Processor time of each exporter, in cores.", [target(f"rate(process_cpu_seconds_total{{{EXPORTERS}}}[$__rate_interval])", "{{instance}}")], "none", size=(8, 7), min=0)
    yield graph(
        "File descriptors",
        "Open ones of each exporter, and the limit.",
        [target(f"process_open_fds{{{EXPORTERS}}}", "{{instance}}"), target(f"process_max_fds{{{EXPORTERS}}}", "limit of {{instance}}")],
        "none",
        size=(8, 7),
        overrides=[dashed("limit of .*", "red")],
        min=0,
    )
    yield graph(
        "Requests to the exporter",
        "Per minute, by page and status.",
        [target(f"sum by (handler, code) (rate(koodrive_exporter_http_requests_total{{{EXPORTERS}}}[$__rate_interval])) * 60 > 0", "{{handler}} {{code}}")],
        "none",
        size=(12, 7),
        min=0,
    )
    yield graph(
        "Log messages",
        "Per minute, by level.",
        [target(f"sum by (level) (rate(koodrive_exporter_log_messages_total{{{EXPORTERS}}}[$__rate_interval])) * 60", "{{level}}")],
        "none",
        size=(12, 7),
        stacked=True,
        min=0,
    )


def variable(name, label, metric, *, label_of, multi=True):
    query = f"label_values({metric}, {label_of})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "current": {"selected": True, "text": "All", "value": "$__all"},
        "options": [],
    }


def placed(panels, top):
    """Gives the panels their places, from left to right and line by line."""
    left = height = 0
    for each in panels:
        width, tall = each.pop("size")
        if left + width > WIDTH:
            top, left, height = top + height, 0, 0
        each["gridPos"] = {"h": tall, "w": width, "x": left, "y": top}
        left, height = left + width, max(height, tall)
    return panels, top + height


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
        "refresh": "1m",
        "schemaVersion": 39,
        "time": {"from": "now-24h", "to": "now"},
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
        "annotations": {"list": []},
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
