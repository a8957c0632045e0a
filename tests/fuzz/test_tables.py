"""Tables of any texts, at any width and in any encoding, have every cell whole."""

from groundwork import terminal
from groundwork.report import tables
from tests import screens
from tests.fuzz.cases import generators

TEXTS = (
    "0.8125±0.0312", "138,357,544", "12 → 3.25 (1.5)", "[bold]", "x[/y]", "[link=a]b[/link]",
    ":smile:", "字数 名前", "a\nb", "\x1b[31mred", "\udcff", "é", "…", "", " ", "runs/" * 20, "{0}",
    "e\u0301", "\u200d", "\t", "%s", "\\", "128 examples: original, ms",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "ascii", "latin-1", "cp1252", "shift_jis")


def _text(rng):
    """One or two of the texts, or any characters."""
    if rng.random() < 0.1:
        points = rng.integers(0, 0x11000, size=rng.integers(1, 8))
        return "".join(map(chr, points))
    return " ".join(str(rng.choice(TEXTS)) for _ in range(rng.integers(1, 3)))


def _squeezed(text):
    return "".join(text.split())


def test_every_cell_is_shown_whole(monkeypatch):
    for rng in generators(300):
        columns = int(rng.integers(1, 9))
        keys = int(rng.integers(0, columns + 1))
        header, *rows = [[_text(rng) for _ in range(columns)] for _ in range(rng.integers(1, 5))]
        room = None if rng.random() < 0.3 else int(rng.integers(1, 220))
        encoding = str(rng.choice(ENCODINGS))
        title = _text(rng)

        def show():
            return tables.show(title, (header, rows), keys)  # noqa: B023 called at once

        said = screens.shown(monkeypatch, show, room, encoding)
        lines = said.split("\n")
        screen = screens.Screen(encoding)

        def fitting(text):
            return terminal.fitting(text, screen)  # noqa: B023

        assert lines[0] == fitting(title)
        named = [" ".join(fitting(name).split()) for name in header]
        blocks = tables.blocks((named, [[*map(fitting, row)] for row in rows]), room, keys)
        shown = [column for block in blocks for column, _ in block]
        assert sorted(set(shown)) == list(range(columns))
        if room is None:
            assert len(lines) == 1 + 2 + len(rows) + 2  # a title, a header, a blank line
        at = 1
        for block in blocks:
            end = lines.index("", at) if "" in lines[at:] else len(lines)
            body = lines[end - len(rows) : end] if rows else []
            for row, line in zip(rows, body, strict=True):
                assert _squeezed(line) == _squeezed("".join(fitting(row[i]) for i, _ in block))
            above = "\n".join(lines[at : end - len(rows)])
            assert all(word in above for i, _ in block for word in named[i].split())
            at = end + 1
            wide = sum(width for _, width in block) + tables.GAP * (len(block) - 1)
            assert room is None or wide <= room or len(block) <= keys + 1
