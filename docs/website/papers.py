"""The bibliography: every work that is cited, and the files that cite it; none may be missing."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

ROOMS = (  # where algorithms stand; others only speak of them
    "benchmarks", "compress", "configs", "deploy", "groundwork", "launch", "lottery", "lowrank",
    "msdnet", "pruning",
)  # fmt: skip
WRITTEN = (".cc", ".h", ".md", ".py", ".sh")
NUMBER = r"(?:\d{4}\.\d{4,5}|[a-z-]+/\d{7})"
CITED = re.compile(rf"arXiv:{NUMBER}(?:(?:,| and) {NUMBER})*")
SOURCE = re.compile(r"\bSources?(?: of [\w -]+)?: (.*?)(?=\n\n|\"\"\"|\Z)", re.DOTALL)


def files(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Yields the path and the text, with blanks and comments' signs as one blank, of each file."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *ROOMS, "docs"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for path in sorted(filter(None, listed.split("\0"))):
        if path.endswith(WRITTEN) and (root / path).is_file():
            yield path, (root / path).read_text()


def joined(text: str) -> str:
    """Returns a text on one line, as citations run over lines of comments and of strings."""
    return re.sub(r"[\s\"]*\n\s*(?:#|//)?[\s\"]*|\s+", " ", text)


def works(root: Path = ROOT) -> tuple[dict[str, list], dict[str, list], list[str]]:
    """Returns those of arXiv by number, those from elsewhere by words, and words of documents."""
    read = tomllib.loads((root / "docs" / "papers.toml").read_text())
    return read["arxiv"], read["elsewhere"], read["documents"]["words"]


def citations(root: Path = ROOT) -> dict[str, list[str]]:
    """Returns number in arXiv, or words → the files with it.

    Raises ValueError with all that is wrong: a number or a source that papers.toml does not have,
    and an entry that nothing cites.
    """
    numbers, elsewhere, documents = works(root)
    found: dict[str, list[str]] = {key: [] for key in (*numbers, *elsewhere)}
    wrong = []
    for path, text in files(root):
        line = joined(text)
        here = {n for match in CITED.findall(line) for n in re.findall(NUMBER, match)}
        wrong += [
            f"{path} cites arXiv:{n}, which docs/papers.toml lacks" for n in here - {*numbers}
        ]
        here |= {words for words in elsewhere if words in line}
        for key in here & found.keys():
            found[key].append(path)
        for said in map(joined, SOURCE.findall(text) if path.endswith(".py") else ()):
            if not CITED.search(said) and not any(w in said for w in (*elsewhere, *documents)):
                wrong.append(f"{path} names a source that docs/papers.toml lacks: {said[:60]}")
    wrong += [
        f"nothing cites {key} of docs/papers.toml" for key, where in found.items() if not where
    ]
    if wrong:
        raise ValueError("\n".join(sorted(wrong)))
    return found


def posted(number: str) -> int:
    """Returns the year in which arXiv numbered it so."""
    two = int(number.split("/")[-1][:2])
    return 1900 + two if two > 90 else 2000 + two


def listed(root: Path = ROOT) -> str:
    """Returns the works by authors, each with the files where it stands."""
    numbers, elsewhere, _ = works(root)
    found = citations(root)
    rows = [
        (
            authors,
            posted(number),
            title,
            f" [arXiv:{number}](https://arxiv.org/abs/{number}).",
            number,
        )
        for number, (authors, title) in numbers.items()
    ]
    rows += [(*entry, "", words) for words, entry in elsewhere.items()]
    lines = []
    for authors, year, title, link, key in sorted(rows, key=lambda row: (row[0].lower(), row[1])):
        code = [path for path in found[key] if not path.endswith(".md")] or found[key]
        where = ", ".join(f"`{path}`" for path in code)
        lines.append(f"- {authors} ({year}). *{title}*.{link}\n  {where}")
    return "\n".join(lines) + "\n"
