"""How objects are printed: tables made by the server, YAML, JSON, names, JSONPath and custom columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bamikube.cli import jsonpath
from bamikube.cli.errors import usage

Map = dict[str, Any]
FORMATS = (
    "json",
    "yaml",
    "name",
    "wide",
    "jsonpath",
    "jsonpath-file",
    "custom-columns",
    "custom-columns-file",
)


@dataclass(frozen=True)
class Output:
    """The value of ``-o``, taken apart."""

    format: str = ""
    argument: str = ""

    @property
    def tabular(self) -> bool:
        return self.format in ("", "wide")


def parse_output(text: str | None) -> Output:
    """``wide``, ``jsonpath={.x}`` and so on. Raises :class:`CliError` for unknown formats."""
    if not text:
        return Output()
    name, equals, argument = text.partition("=")
    if name not in FORMATS:
        allowed = ",".join(sorted(FORMATS))
        raise usage(
            f'unable to match a printer suitable for the output format "{name}", allowed formats are: {allowed}'
        )
    if name.startswith(("jsonpath", "custom-columns")) and not argument:
        raise usage(f"{name} format specified but no {name} template given")
    if name.endswith("-file"):
        try:
            with open(argument) as stream:
                return Output(name.removesuffix("-file"), stream.read())
        except OSError as error:
            raise usage(f"error reading {argument}: {error.strerror}") from None
    return Output(name, argument if equals else "")


def dump_yaml(obj: Any) -> str:
    """YAML with keys in order and texts of several lines as blocks, as kubectl prints it."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        pass

    def text_node(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, text_node)
    text: str = yaml.dump(
        obj, Dumper=Dumper, sort_keys=True, allow_unicode=True, default_flow_style=False, width=10**6
    )
    return text


def print_object(output: Output, obj: Map, named: str = "") -> None:
    """One document in any format but tables. ``named`` is ``pod/web`` for ``-o name``."""
    match output.format:
        case "json":
            text = json.dumps(obj, indent=4, ensure_ascii=False) + "\n"
        case "yaml":
            text = dump_yaml(obj)
        case "name":
            text = named + "\n"
        case "jsonpath":
            text = jsonpath.render(output.argument, obj)
        case _:
            text = custom_columns(output.argument, obj)
    sys.stdout.write(text)


def custom_columns(spec: str, obj: Map) -> str:
    """``NAME:.metadata.name,IMAGE:.spec.containers[*].image``, a row for each object."""
    headers: list[str] = []
    paths: list[str] = []
    for part in spec.strip().split(","):
        header, colon, path = part.partition(":")
        if not colon:
            raise usage(f"unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
        headers.append(header)
        paths.append(path.strip("{}"))
    items = obj["items"] if isinstance(obj.get("items"), list) else [obj]
    rows = [
        [",".join(jsonpath.text_of(value) for value in _evaluate(path, item)) or "<none>" for path in paths]
        for item in items
    ]
    return format_rows(headers, rows)


def _evaluate(path: str, item: Any) -> list[Any]:
    return jsonpath.evaluate(path if path.startswith((".", "[", "$", "@")) else "." + path, item, item)


def format_rows(headers: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to the widest cell and three blanks; nothing behind the last."""
    lines = [*([list(headers)] if headers else []), *(list(row) for row in rows)]
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) + 3 for column in range(len(lines[0]))]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


@dataclass
class TableOptions:
    """What changes a table: extra columns, names with their kind, no header."""

    wide: bool = False
    namespace: bool = False
    labels: bool = False
    label_columns: list[str] = field(default_factory=list)
    prefix: str = ""  # "pod/" when several kinds are printed
    headers: bool = True


def format_table(table: Map, options: TableOptions) -> str:
    """A ``meta.k8s.io/v1 Table`` as text."""
    columns = [
        (index, column)
        for index, column in enumerate(table.get("columnDefinitions", []))
        if options.wide or not column.get("priority")
    ]
    headers = [column["name"].upper() for _, column in columns]
    if options.namespace:
        headers.insert(0, "NAMESPACE")
    headers += [key.rpartition("/")[2].upper() for key in options.label_columns]
    if options.labels:
        headers.append("LABELS")
    rows = []
    for row in table.get("rows") or []:
        metadata = (row.get("object") or {}).get("metadata") or {}
        labels = metadata.get("labels") or {}
        cells = [cell_text(row["cells"][index]) for index, _ in columns]
        if options.prefix and cells:
            cells[0] = options.prefix + cells[0]
        if options.namespace:
            cells.insert(0, metadata.get("namespace", ""))
        cells += [labels.get(key, "") for key in options.label_columns]
        if options.labels:
            cells.append(",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>")
        rows.append(cells)
    return format_rows(headers if options.headers else None, rows)


def cell_text(value: Any) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else jsonpath.text_of(value)
    return text.partition("\n")[0] + "..." if "\n" in text.strip() else text
