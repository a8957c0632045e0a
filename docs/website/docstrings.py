"""What a docstring and a source say, as Markdown."""

import ast
import inspect
import re
import textwrap
from typing import Any

SECTION = re.compile(r"(?m)^(Args|Attributes|Raises|Returns|Yields|Example):\n((?:(?:  .*)?\n?)*)")
EXAMPLE = re.compile(r"(?m)(?:^ *>>> .*\n(?:(?! *>>>) *\S.*\n)*)+")


def _definition(value: Any) -> ast.FunctionDef | ast.ClassDef:
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(value)))
    found = ast.parse(source).body[0]
    assert isinstance(found, (ast.FunctionDef, ast.ClassDef)), value
    return found


def signature(value: Any) -> str:
    """Returns `(arguments) -> result`, as the source has it."""
    written = _definition(value)
    if isinstance(written, ast.ClassDef):
        return ""
    result = f" -> {ast.unparse(written.returns)}" if written.returns else ""
    return f"({ast.unparse(written.args)}){result}"


def fields(value: Any) -> list[str]:
    """Returns a line for each field of a record, with the comment that stands beside it."""
    source = textwrap.dedent(inspect.getsource(value)).splitlines()
    lines = []
    for node in _definition(value).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            line = source[(node.end_lineno or 0) - 1].encode()[node.end_col_offset :].decode()
            comment = line.partition("#")[2].strip()
            default = f" = {ast.unparse(node.value)}" if node.value else ""
            said = f": {comment}" if comment else ""
            lines.append(f"- `{node.target.id}: {ast.unparse(node.annotation)}{default}`{said}")
    return lines


def markdown(doc: str) -> str:
    """Returns a docstring as Markdown: sections as lists, examples as blocks of code."""
    sections = re.sub(SECTION, _section, doc)
    return re.sub(EXAMPLE, lambda block: f"```pycon\n{textwrap.dedent(block[0])}```\n", sections)


def _section(match: re.Match[str]) -> str:
    title, body = match[1], textwrap.dedent(match[2]).strip("\n")
    if title in ("Args", "Attributes", "Raises"):  # a line for each name, or its continuation
        named = r"(?m)^((?:[\w.*]+(?:, )?)+): "
        body = re.sub(named, lambda at: f"- `{at[1]}`: ", body)
    return f"**{'Arguments' if title == 'Args' else title}**\n\n{body}\n\n"
