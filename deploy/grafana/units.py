"""Values as Grafana writes and colors them."""

import datetime
import math

COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "yellow": "#fade2a", "text": "#ccccdc"}
SECONDS = [(31536000, "years"), (604800, "weeks"), (86400, "days"), (3600, "hours"), (60, "mins"), (1, "s"), (0.001, "ms"), (0.000001, "µs")]


def rounded(value, decimals=None):
    if decimals is None:
        decimals = 0
        if value and value % 1:
            places = 1 - math.floor(math.log10(abs(value)))
            decimals = max(0, places + (abs(value) * 10**places > 2.25))
    return f"{value:.{decimals}f}"


def in_unit(value, unit, decimals=None):
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "-∞" if value < 0 else "∞"
    if unit == "bytes":
        power = min(int(math.log(abs(value), 1024)), 5) if abs(value) >= 1 else 0
        return f"{rounded(value / 1024**power, decimals)} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"
    if unit == "percentunit":
        return rounded(100 * value, decimals) + "%"
    if unit == "s":
        size, name = next(((size, name) for size, name in SECONDS if abs(value) >= size), (1, "s"))
        return f"{rounded(value / size, decimals)} {name}"
    if unit in ("dateTimeAsIso", "time:YYYY-MM-DD"):
        form = "%Y-%m-%d %H:%M:%S" if unit == "dateTimeAsIso" else "%Y-%m-%d"
        return datetime.datetime.fromtimestamp(value / 1000, datetime.UTC).strftime(form)
    assert unit in ("none", "short"), unit
    return rounded(value, decimals)


def mapped(value, field):
    """The result of the first value mapping that the value has."""
    for mapping in field.get("mappings", []):
        options = mapping["options"]
        if mapping["type"] == "range":
            low, high = options["from"], options["to"]
            if not isinstance(value, str) and (low is None or value >= low) and (high is None or value <= high):
                return options["result"]
        else:
            found = options.get(value if isinstance(value, str) else f"{value:g}")
            if found:
                return found
    return None


def shown(value, field):
    found = mapped(value, field)
    return found["text"] if found else in_unit(value, field["unit"], field.get("decimals"))


def color_at(value, field):
    found = mapped(value, field)
    if found and "color" in found:
        return COLORS[found["color"]]
    below = [step["color"] for step in field["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    return COLORS[below[-1]]
