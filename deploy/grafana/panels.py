"""The parts that the dashboard is made of, as Grafana's JSON has them."""

import pathlib
import re

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
NEUTRAL = [(None, "blue")]
GOOD_IS_ONE = [(None, "red"), (1, "green")]

# What the variables choose: accounts by the recorded series, and exporters one by one.
ACCOUNTS = 'job=~"$job",account=~"$account"'
EXPORTERS = 'job=~"$job",instance=~"$instance"'
BOTH = f"{EXPORTERS},account=~\"$account\""


def default_threshold(name):
    """The one in the alerts' rules: a color has a fixed level, and an override of one account does not change it."""
    rules = (pathlib.Path(__file__).parent.parent / "prometheus" / "koodrive.rules.yml").read_text()
    return float(re.search(rf":{name}\)\n *or account:koodrive_known:info \* (\S+)", rules)[1])


def target(expr, legend="", *, instant=False, format="time_series"):
    query = {"refId": "A", "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "format": format}
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


def graph(title, description, targets, unit, *, steps=NEUTRAL, size=(12, 8), stacked=False, slowest_first=False, overrides=(), **field):
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
    if slowest_first:
        options["legend"] |= {"sortBy": "Last *", "sortDesc": True}
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


def annotation(name, color, expr, text, *, at_value=False):
    """Marks in all graphs: at the times of the query's samples, or at those that their values say, in milliseconds."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "5m",
        "titleFormat": text,
        "useValueForTime": at_value,
    }
