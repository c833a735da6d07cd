"""The pages of the project's documentation, and what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("docs/reference/*.md"))
FENCE = re.compile(r"^(`{3,}|:{3,})(\S*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`]+`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ADDRESS = re.compile(r"<?https?://[^\s>)]+>?")


def name(page: Path) -> str:
    """A page's path below the project, as the tests name it."""
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """A page's text with empty lines in the place of fenced blocks, so that line numbers stay; notes keep theirs."""

    def emptied(match: re.Match[str]) -> str:
        if match[1].startswith(":"):
            return re.sub(r"^:{3,}.*$", "", match[0], flags=re.MULTILINE)
        return "\n" * match[0].count("\n")

    return FENCE.sub(emptied, page.read_text())


def prose(text: str) -> str:
    """Text as it is read: without code, addresses and the syntax of links."""
    text = re.sub(r"\{\w+:\w+\}`[^`]*`", "`x`", text)
    text = _SPAN.sub("\N{BULLET}", text)
    return _ADDRESS.sub("\N{BULLET}", _LINK.sub(r"\1", text))


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each paragraph, list item and quotation; no headings, tables, images or HTML."""
    block: list[str] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        other = re.match(r"\s*(#|\||!\[|<|---|\[\w+\]:)", line) or not line.strip()
        item = re.match(r"\s*([-*]|\d+\.)\s", line)
        if block and (other or item):
            yield first, " ".join(block)
            block = []
        if not other:
            first = first if block else number
            block.append(re.sub(r"^\s*([-*]|\d+\.)\s+", "", line).strip())


def tables(text: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Line number and rows of each table, the header first."""
    rows: list[list[str]] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.lstrip().startswith("|"):
            first = first if rows else number
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]])
        elif rows:
            yield first, rows
            rows = []
