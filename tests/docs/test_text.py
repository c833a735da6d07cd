"""The documentation is written to the end: whole sentences of English words, no markers, headers over every table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name, paragraphs, prose, tables, text_of

_MARKER = re.compile(r"\b(X{2,}|TODO|FIXME|TBD|TBC|WIP|HACK|[Ll]orem ipsum)\b|\?{2,}|<{4,}|>{4,}|\.{4,}")
_GITHUB = re.compile(r"github\.com/([\w.-]+/[\w.-]+)")
# Repositories that exist and that a text may speak of. The project's own has no known address.
_REPOSITORIES = {"apache/airflow", "polarsource/polar"}
# One thing has one word, and these are other words for things that have one.
_OTHER_WORDS = {
    "answer": "response",
    "answers": "responses, or responds",
    "answered": "responded",
    "asked": "requested",
    "chunk": "slice or shard",
    "chunks": "slices or shards",
    "cut": "split",
    "hole": "discrepancy",
    "holes": "discrepancies",
    "mend": "fix",
    "mended": "fixed",
    "mending": "fixing",
    "mends": "fixes",
    "piece": "shard",
    "pieces": "shards",
    "spool": "dispatcher",
    "spot": "discrepancy",
    "spots": "discrepancies",
}
# English and technical words that the spelling dictionary does not have.
_KNOWN_WORDS = set((Path(__file__).parent / "words.txt").read_text().split())


@pytest.fixture(params=PAGES, ids=name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_nothing_is_left_open(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if _MARKER.search(line)] == []


def test_sentences_come_to_an_end(page: Path) -> None:
    """A paragraph without a mark at its end has lost its end."""
    text = text_of(page)
    broken = []
    for line, paragraph in paragraphs(text):
        item = re.match(r"\s*([-*]|\d+\.)\s", text.splitlines()[line - 1])
        whole = re.search(r"[.:!?][)\"'*_]*$", prose(paragraph)) or (item and paragraph[-1] in ",;")
        if not whole and " · " not in paragraph:
            broken.append(f"{line}: ...{paragraph[-70:]}")
    assert broken == []


def test_tables_have_headers(page: Path) -> None:
    wrong = []
    for line, rows in tables(text_of(page)):
        if not all(rows[0]):
            wrong.append(f"{line}: a column without a header")
        if len(rows) < 3 or not all(re.fullmatch(r":?-+:?", cell) for cell in rows[1]):
            wrong.append(f"{line}: no header, or nothing below it")
        if widths := {len(row) for row in rows} - {len(rows[0])}:
            wrong.append(f"{line}: rows of {widths} columns below a header of {len(rows[0])}")
    assert wrong == []


def test_links_have_a_text_and_an_address(page: Path) -> None:
    text = text_of(page)
    assert re.findall(r"!?\[\s*\]\([^)]*\)|!?\[[^\]]*\]\(\s*#?\s*\)|\{(?:doc|ref|py:\w+)\}`\s*`", text) == []


def repositories(path: Path) -> set[str]:
    return {found.removesuffix(".git") for found in _GITHUB.findall(path.read_text())}


def test_no_repository_is_invented(page: Path) -> None:
    assert repositories(page) <= _REPOSITORIES


def test_no_repository_is_invented_beside_the_pages() -> None:
    paths = [ROOT / "pyproject.toml", *ROOT.glob(".github/**/*.yml"), *ROOT.glob("dags_examples/*.*")]
    paths += ROOT.glob("airflow_provider_polar/**/*.py")
    assert {name(path) for path in paths if repositories(path) - _REPOSITORIES} == set()


def test_one_thing_has_one_word(page: Path) -> None:
    found = []
    for number, line in enumerate(prose(text_of(page)).splitlines(), 1):
        for word in re.findall(r"[a-z]+", line.lower()):
            if word in _OTHER_WORDS:
                found.append(f"{number}: {word} (say {_OTHER_WORDS[word]})")
    assert found == []


def test_examples_say_the_same_words() -> None:
    for path in ROOT.glob("dags_examples/*.py"):
        assert set(re.findall(r"[a-z]+", path.read_text().lower())) & _OTHER_WORDS.keys() <= {"pieces"}, name(path)


PUBLIC = [
    "*.py",
    "api/*.py",
    "assets/*.py",
    "decorators/*.py",
    "events/waiting/*.py",
    "events/window.py",
    "hooks/*.py",
    "links/*.py",
    "notifications/*.py",
    "operators/*.py",
    "policies/*.py",
    "sensors/*.py",
    "testing/*.py",
    "triggers/*.py",
    "windows/*.py",
]
MODULES = sorted(path for pattern in PUBLIC for path in (ROOT / "airflow_provider_polar").glob(pattern))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each docstring of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and (text := ast.get_docstring(node)) is not None:
            yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_docstrings_begin_with_a_summary(path: Path) -> None:
    assert [line for line, text in docstrings(path) if not text or text.startswith(":")] == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_docstrings_say_the_same_words(path: Path) -> None:
    found = []
    for line, text in docstrings(path):
        # Without the parameters' own names, code and examples.
        plain = re.sub(r":(param|ivar|raises) \w+:|`+[^`]+`+|^    .*$", "", text, flags=re.MULTILINE)
        found += [f"{line}: {word}" for word in re.findall(r"[a-z]+", plain.lower()) if word in _OTHER_WORDS]
    assert found == []


def test_words_are_words(page: Path) -> None:
    spellchecker = pytest.importorskip("spellchecker", reason="pyspellchecker is not installed: run `make install`")
    dictionary = spellchecker.SpellChecker()
    wrong = []
    for number, line in enumerate(prose(text_of(page)).splitlines(), 1):
        for word in re.findall(r"(?<!\d)[A-Za-z]+(?:'[a-z]+)?", line):
            plain = word.lower().removesuffix("'s")
            # Polar's classes and Airflow's are not prose even where they stand without code marks.
            if plain not in _KNOWN_WORDS and dictionary.unknown([plain]) and not re.search(r"[a-z][A-Z]", word):
                wrong.append(f"{number}: {word}")
    assert wrong == []


def broken(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (test_nothing_is_left_open, "Nothing is deduplicated: a request whose response XX\n"),
        (test_nothing_is_left_open, "| a | b |\n| --- | --- |\n| TODO | c |\n"),
        (test_sentences_come_to_an_end, "Without an id nothing is deduplicated: a request whose\n\n```text\n```\n"),
        (test_tables_have_headers, "| | |\n| --- | --- |\n| a | b |\n"),
        (test_tables_have_headers, "| a | b |\n| --- | --- |\n| c |\n"),
        (test_links_have_a_text_and_an_address, "See [there]() for more.\n"),
        (test_links_have_a_text_and_an_address, "See [](there.md) for more.\n"),
        (test_no_repository_is_invented, "See https://github.com/somebody/something for more.\n"),
        (test_one_thing_has_one_word, "A retry mends it.\n"),
        (test_words_are_words, "A requets is sent.\n"),
    ],
)
def test_the_checks_catch_what_they_are_for(check, text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(broken(tmp_path, text))
