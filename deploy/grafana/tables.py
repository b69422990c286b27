"""Tables as Grafana makes them: a column for each label, transformations, overrides, order."""

from html import escape

from common import field_of, nothing, substituted
from units import color_at, mapped, shown


def frames(panel, source, variables):
    """The table of each query: a column for each label and one for the value."""
    targets = panel["targets"]
    for target in targets:
        result = source.instant(substituted(target["expr"], variables))
        value = "Value" if len(targets) == 1 else f"Value #{target['refId']}"
        labels = sorted({name for metric, _ in result for name in metric})
        rows = [{"Time": source.end} | {name: metric.get(name, "") for name in labels} | {value: number} for metric, number in result]
        if rows:
            yield ["Time", *labels, value], rows


def merged(tables):
    common = set.intersection(*(set(names) for names, _ in tables))
    columns = list(dict.fromkeys(name for names, _ in tables for name in names))
    rows = {}
    for _, more in tables:
        for row in more:
            same = rows.setdefault(tuple(row[name] for name in sorted(common)), [])
            into = next((one for one in same if all(one.get(name, value) == value for name, value in row.items())), None)
            if into is None:
                same.append(into := {})
            into.update(row)
    return columns, [row for same in rows.values() for row in same]


def transformed(tables, transformations):
    for step in transformations:
        options = step["options"]
        if step["id"] == "filterFieldsByName":
            dropped = set(options["exclude"]["names"])
            tables = [
                ([name for name in names if name not in dropped], [{key: value for key, value in row.items() if key not in dropped} for row in rows])
                for names, rows in tables
            ]
        elif step["id"] == "merge":
            tables = [merged(tables)]
        else:
            assert step["id"] == "organize", step["id"]
            order, renamed, excluded = options["indexByName"], options["renameByName"], options["excludeByName"]
            names, rows = tables[0]
            names = sorted((name for name in names if not excluded.get(name)), key=lambda name: order.get(name, len(order)))
            tables = [([renamed.get(name, name) for name in names], [{renamed.get(key, key): row.get(key) for key in names} for row in rows])]
    return tables


def table(panel, source, variables, _):
    tables = list(frames(panel, source, variables))
    if not tables:
        return nothing(panel)
    tables = transformed(tables, panel.get("transformations", []))
    names, rows = tables[0]
    fields = {name: field_of(panel, name) for name in names}
    titles = {name: field.get("displayName", name) for name, field in fields.items()}
    for order in reversed(panel["options"]["sortBy"]):
        # Grafana sorts by the title, and leaves rows as they are where no column has it.
        name = next((name for name, title in titles.items() if title == order["displayName"]), None)
        if name:
            rows = sorted(rows, key=lambda row: (row.get(name) is None, row.get(name)), reverse=order["desc"])
    numeric = {name: any(isinstance(row.get(name), float) for row in rows) for name in names}
    side = {name: ' class="number"' if numeric[name] else "" for name in names}
    head = "".join(f"<th{side[name]}>{escape(titles[name])}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td{side[name]}>{cell(row.get(name), fields[name])}</td>" for name in names) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def cell(value, field):
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        found = mapped(value, field)
        return escape(found["text"] if found else value)
    text, color = escape(shown(value, field)), color_at(value, field)
    kind = field["custom"].get("cellOptions", {}).get("type")
    if kind == "gauge":
        part = min(max((value - field["min"]) / (field["max"] - field["min"]), 0), 1)
        return f'<div class="gauge"><i><b style="width:{100 * part:.1f}%;background:{color}"></b></i><span style="color:{color}">{text}</span></div>'
    return f'<span style="color:{color}">{text}</span>' if kind == "color-text" else text
