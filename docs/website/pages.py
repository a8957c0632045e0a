"""The pages that people wrote, put where the site has them, with their links turned to there."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

# What is not in docs/ comes from beside the code that it is about.
PLACES = {
    "lottery/README.md": "guides/lottery.md",
    "lottery/early_bird/README.md": "guides/early_bird.md",
    "msdnet/README.md": "guides/msdnet.md",
    "lowrank/README.md": "guides/lowrank.md",
    "pruning/README.md": "guides/pruning.md",
    "compress/README.md": "guides/compress.md",
    "compress/search/README.md": "guides/search.md",
    "deploy/README.md": "guides/deploy.md",
    "launch/README.md": "guides/launch.md",
    "configs/README.md": "guides/configs.md",
    "benchmarks/README.md": "benchmarks.md",
    "groundwork/README.md": "house/groundwork.md",
    "groundwork/architectures/README.md": "house/architectures.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "docs/tutorials/README.md": "tutorials/index.md",
    "docs/deploy.md": "engines.md",  # beside the command's guide, which has the same name
}
LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<path>[^()#:\s]*)(?P<anchor>#[^()\s]*)?\)")
IMAGE = re.compile(r"(!\[[^\]]*\]\()([^():\s]+)(\))")


def places(root: Path = ROOT) -> dict[str, str]:
    """Returns file of the repository → page of the site."""
    written = sorted((root / "docs").rglob("*.md"))
    own = {str(path.relative_to(root)): str(path.relative_to(root / "docs")) for path in written}
    for file, place in own.items():
        if place.startswith("tutorials/"):  # `tutorials.place` writes them
            own[file] = place.replace(".md", ".ipynb")
    return own | {file: place for file, place in PLACES.items() if (root / file).is_file()}


def turned(text: str, file: str, place: str, where: dict[str, str], root: Path = ROOT) -> str:
    """Returns the text with links and pictures as they are seen from its place.

    A link to a file that is no page becomes the text alone. Raises ValueError about a link to what
    is not there.
    """

    def target(path: str) -> str:
        named = os.path.normpath(os.path.join(os.path.dirname(file), path))
        if not (root / named).exists():
            raise ValueError(f"{file} links to {path}, which is not there")
        return named

    def link(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        if not path:
            return match[0]
        page = where.get(target(path))
        if page is None:
            return match["text"]
        return f"[{match['text']}]({os.path.relpath(page, os.path.dirname(place) or '.')}{anchor})"

    def image(match: re.Match[str]) -> str:
        source = os.path.relpath(target(match[2]), "docs")
        return f"{match[1]}{os.path.relpath(source, os.path.dirname(place) or '.')}{match[3]}"

    return IMAGE.sub(image, LINK.sub(link, text))


def assemble(out: Path, root: Path = ROOT) -> None:
    """Writes all pages that people wrote, and the pictures of docs/, under a folder."""
    where = places(root)
    for file, place in where.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        if place.endswith(".md"):
            (out / place).write_text(turned((root / file).read_text(), file, place, where, root))
    for picture in (root / "docs").rglob("*.png"):
        copy = out / picture.relative_to(root / "docs")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(picture.read_bytes())


def fill(page: Path, marks: dict[str, str]) -> None:
    """Puts what was made in the place of each mark. Raises ValueError where one is not there."""
    text = page.read_text()
    for mark, made in marks.items():
        if mark not in text:
            raise ValueError(f"{page.name} has no {mark}")
        text = text.replace(mark, made)
    page.write_text(text)
