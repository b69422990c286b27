"""Writes the generated parts of the chart: rules and dashboard from deploy/, versions from Cargo.toml, the README's table.

Usage: generate.py [--check]     # with --check, fails where a file is not what this program would write
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
DEPLOY = HERE.parent
CHART = HERE / "koodrive-exporter"
SOURCES = [
    DEPLOY / "prometheus" / "koodrive.rules.yml",
    DEPLOY / "prometheus" / "koodrive.alerts.yml",
    DEPLOY / "grafana" / "dashboards" / "koodrive.json",
]
TABLE = re.compile(r"(?<=<!-- table: values -->\n).*?(?=<!-- end -->)", re.DOTALL)


def rows(text):
    """The path, default and description of each documented key. A key without a description must be below one."""
    path, description, documented = [], [], None
    for number, line in enumerate(text.splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        content = line.strip()
        if content.startswith("# -- "):
            description = [content.removeprefix("# -- ")]
        elif content.startswith("#"):
            if description:
                description.append(content.removeprefix("#").strip())
        elif documented is not None and content and indent > documented:
            continue
        elif match := re.fullmatch(r"(\w+):(?: (.+))?", content):
            key, default = match.groups()
            path[indent // 2 :] = [key]
            documented = indent if description else None
            if description:
                yield ".".join(path), default, " ".join(description)
            elif default is not None:
                sys.exit(f"values.yaml:{number}: {'.'.join(path)} has no description")
            description = []
        elif content:
            sys.exit(f"values.yaml:{number}: this line is neither a key nor a comment")


def table(values):
    text = "| key | default | meaning |\n| --- | --- | --- |\n"
    for key, default, meaning in rows(values):
        shown = f"`{default}`" if default else "[`values.yaml`](values.yaml)"
        text += f"| `{key}` | {shown} | {meaning.replace('|', chr(92) + '|')} |\n"
    return text


def written():
    version = re.search(r'^version = "(.*)"$', (DEPLOY.parent / "Cargo.toml").read_text(), re.MULTILINE)[1]
    chart = (CHART / "Chart.yaml").read_text()
    readme = (CHART / "README.md").read_text()
    values = table((CHART / "values.yaml").read_text())
    files = {CHART / "files" / source.name: source.read_text() for source in SOURCES}
    files[CHART / "Chart.yaml"] = re.sub(r"^(version|appVersion): .*$", rf"\1: {version}", chart, flags=re.MULTILINE)
    files[CHART / "README.md"] = TABLE.sub(lambda _: values, readme)
    return files


def main():
    files = written()
    strays = set((CHART / "files").glob("*")) - set(files)
    if strays:
        sys.exit(f"{', '.join(map(str, strays))}: no source has this name")
    if sys.argv[1:] == ["--check"]:
        for path, text in files.items():
            if not path.exists() or path.read_text() != text:
                sys.exit(f"{path} is not what {__file__} writes: run it")
    else:
        for path, text in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main()
