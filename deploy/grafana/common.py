"""What panels of all kinds share: variables, overrides, the text of an empty one."""

import re


def substituted(text, variables):
    return re.sub(r"\$\{?(\w+)(?::\w+)?\}?", lambda match: variables.get(match[1], match[0]), text)


def field_of(panel, name, title=None):
    """The field's settings: the panel's own, and those of the overrides that match its name."""
    config = panel["fieldConfig"]
    field = dict(config["defaults"])
    custom = dict(field.get("custom", {}))
    for override in config["overrides"]:
        matcher = override["matcher"]
        if matcher["options"] == name if matcher["id"] == "byName" else re.search(matcher["options"], title or name):
            for each in override["properties"]:
                if each["id"].startswith("custom."):
                    custom[each["id"].removeprefix("custom.")] = each["value"]
                else:
                    field[each["id"]] = each["value"]
    return field | {"custom": custom}


def nothing(panel):
    return f'<div class="stat none">{panel["fieldConfig"]["defaults"].get("noValue", "No data")}</div>'
