"""What the site is made of: links turned, papers, the house, the reference; all can go wrong."""

import subprocess
import types

import pytest
from website import check, docstrings, house, pages, papers, reference, tutorials


def test_links_lead_to_where_pages_stand_on_the_site():
    where = {"docs/own.md": "own.md", "lottery/README.md": "guides/lottery.md"}
    text = "[a](../docs/own.md#rates), [b](#here), [c](https://x.org), [d](main.py)"
    turned = pages.turned(text, "lottery/README.md", "guides/lottery.md", where)
    assert turned == "[a](../own.md#rates), [b](#here), [c](https://x.org), d"


def test_pictures_are_found_from_each_page():
    text = "![seen](../docs/dilated.png)"
    turned = pages.turned(text, "lottery/README.md", "guides/lottery.md", {})
    assert turned == "![seen](../dilated.png)"


def test_a_link_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"lottery/README.md links to nothing.md"):
        pages.turned("[a](nothing.md)", "lottery/README.md", "guides/lottery.md", {})


def test_all_pages_that_people_wrote_have_a_place_of_their_own():
    places = pages.places()
    assert len(set(places.values())) == len(places)
    assert places["docs/own.md"] == "own.md"
    assert pages.PLACES.items() <= places.items()


@pytest.fixture
def small(tmp_path):
    """A repository with one file that cites, and its bibliography."""

    def make(code, arxiv='"1803.03635" = ["Frankle & Carbin", "The lottery"]\n', elsewhere=""):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "pruning").mkdir(exist_ok=True)
        (tmp_path / "pruning" / "a.py").write_text(code)
        words = '[documents]\nwords = ["a manual"]\n'
        text = f"[arxiv]\n{arxiv}[elsewhere]\n{elsewhere}{words}"
        (tmp_path / "docs" / "papers.toml").write_text(text)
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        return tmp_path

    return make


def test_a_citation_is_found_wherever_its_line_breaks(small):
    code = '"""Prunes. Source: Frankle & Carbin,\n    arXiv:1803.03635, Section 2."""\n'
    assert papers.citations(small(code)) == {"1803.03635": ["pruning/a.py"]}


def test_numbers_in_a_row_and_old_numbers_are_citations(small):
    entries = '"1803.03635" = ["A", "B"]\n"math/0307152" = ["C", "D"]\n"2002.07376" = ["E", "F"]\n'
    code = "# arXiv:1803.03635, 2002.07376, and arXiv:math/0307152\n"
    assert len(papers.citations(small(code, entries))) == 3
    assert papers.posted("math/0307152") == 2003
    assert papers.posted("1803.03635") == 2018


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("# arXiv:1803.03635 and arXiv:9999.99999\n", "cites arXiv:9999.99999"),
        ("# nothing\n", "nothing cites 1803.03635"),
        (
            '"""Source: Somebody 1990."""\n# arXiv:1803.03635',
            "names a source that docs/papers.toml",
        ),
    ],
)
def test_what_is_missing_in_the_bibliography_or_cited_no_more_is_refused(small, code, said):
    with pytest.raises(ValueError, match=said):
        papers.citations(small(code))


def test_works_without_a_number_are_known_by_their_words(small):
    entry = '"Huffman 1952" = ["Huffman", 1952, "A method"]\n'
    root = small('"""Source: Huffman 1952.\n\nSource: a manual."""\n', "", entry)
    assert papers.citations(root) == {"Huffman 1952": ["pruning/a.py"]}
    assert papers.listed(root) == "- Huffman (1952). *A method*.\n  `pruning/a.py`\n"


def test_the_house_is_drawn_from_its_imports():
    packages, rooms = house.floors()
    assert packages[0] == "launch"
    assert packages[-1] == "groundwork"
    edges, sizes = house.imports(packages)
    assert ("compress", "pruning") in edges
    assert ("pruning", "compress") not in edges
    assert sizes["groundwork"] > 100
    svg = house.drawn(packages, edges, sizes, "The house")
    assert svg.count('class="arc"') == len(edges)
    assert "<title>The house</title>" in svg
    assert {"groundwork.traced", "groundwork.study"} <= set(rooms)


def test_imports_that_run_upward_are_refused(monkeypatch):
    upside_down = lambda names: ({(names[-1], names[0]): 1}, dict.fromkeys(names, 1))  # noqa: E731
    monkeypatch.setattr(house, "imports", upside_down)
    with pytest.raises(ValueError, match="imports run upward"):
        house.pictures()


def test_every_public_name_is_documented_and_a_bare_one_is_found(monkeypatch):
    assert reference.undocumented() == []
    bare = types.ModuleType("bare")
    exec("def f(x): return x\nclass C:\n    'A class.'\n    def m(self): ...", bare.__dict__)
    bare.f.__module__ = bare.C.__module__ = bare.C.m.__module__ = "bare"
    monkeypatch.setattr(reference, "modules", lambda: {"bare": ("bare",)})
    monkeypatch.setattr(reference, "_module", lambda name: bare)
    assert reference.undocumented() == ["bare.C.m", "bare.f"]


def test_docstrings_become_lists_and_blocks():
    doc = "Does it.\n\nArgs:\n  a, b: the first,\n    and more.\n  c: the last.\n\n"
    doc += "Returns:\n  Both.\n\n"
    doc += "Example:\n    >>> 1 + 1\n    2\n\n    >>> 3\n    3\n"
    said = docstrings.markdown(doc)
    assert "**Arguments**\n\n- `a, b`: the first,\n  and more.\n- `c`: the last.\n" in said
    assert "**Returns**\n\nBoth.\n" in said
    assert "```pycon\n>>> 1 + 1\n2\n```" in said
    assert "```pycon\n>>> 3\n3\n```" in said


def test_an_object_of_two_names_is_documented_once():
    homes = reference.homes()
    assert homes["lottery.load"] == homes["lottery.tickets.load"] == "lottery.tickets.load"
    assert homes["lottery.masks.ones"] == "pruning.masks.ones"


def test_faults_of_a_built_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<script src="https://x.org/a.js"></script><link rel="canonical" href="https://x.org/">'
        '<a href="https://x.org">4</a><img src="//x.org/a.png">'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    assert [*check.faults(tmp_path)] == [
        "a.html loads https://x.org/a.js",
        "a.html loads //x.org/a.png",
        "a.html links to b.html#gone: no such place",
        "a.html links to c.html: no such file",
    ]


def test_outputs_are_shown_only_with_the_text_that_made_them(tmp_path, monkeypatch):
    head = "---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n"
    text = (
        head + "kernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n# Title\nWords.\n\n"
    )
    text += "```{code-cell}\nprint(20 + 3)\n```\n"
    written, executed, site = tmp_path / "written", tmp_path / "executed", tmp_path / "site"
    for folder in (written, site):
        folder.mkdir()
    (written / "one.md").write_text(text)
    (site / "index.md").write_text("[one](one.ipynb)\n")
    monkeypatch.setattr(tutorials, "WRITTEN", written)
    monkeypatch.setattr(tutorials, "EXECUTED", executed)
    tutorials.place(site)
    assert "built without the outputs" in (site / "one.ipynb").read_text()
    assert (site / "index.md").read_text().endswith("{toctree}\n:hidden:\n\none\n```\n")

    tutorials.execute(written / "one.md", executed)
    tutorials.place(site)
    assert "23" in (site / "one.ipynb").read_text()
    assert "built without the outputs" not in (site / "one.ipynb").read_text()

    (written / "one.md").write_text(text.replace("20 + 3", "20 + 4"))
    tutorials.place(site)
    assert "built without the outputs" in (site / "one.ipynb").read_text()
