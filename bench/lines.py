"""Lines of code per package, and of tests. Run: ``python bench/lines.py``.

A line counts as code if it holds anything but a comment, a docstring or white space. Generated stubs (``rpc/``) and
data are counted by themselves.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import report  # noqa: E402

SKIPPED = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def code_lines(source: str) -> int:
    """Lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def count(folder: Path) -> tuple[int, int, int, int]:
    """Files, lines, lines of code, and the longest file's lines."""
    files = sorted(folder.rglob("*.py"))
    sources = [file.read_text() for file in files]
    lengths = [source.count("\n") for source in sources]
    return len(files), sum(lengths), sum(map(code_lines, sources)), max(lengths, default=0)


def main() -> None:
    package = report.SERVICES / "bamikube"
    folders = [
        folder for folder in sorted(package.iterdir()) if folder.is_dir() and folder.name != "__pycache__"
    ]
    written = [(folder.name, count(folder)) for folder in folders if folder.name != "rpc"]
    rows: list[tuple[object, ...]] = [(name, *numbers) for name, numbers in written]
    sums = [sum(numbers[index] for _, numbers in written) for index in range(3)]
    rows.append(("all services", *sums, max(numbers[3] for _, numbers in written)))
    rows += [(name, *count(report.PROJECT / name)) for name in ("tests", "bench")]
    rows.append(("rpc (generated)", *count(package / "rpc")))
    report.show("lines of Python", ("", "files", "lines", "code", "longest file"), rows)


if __name__ == "__main__":
    main()
