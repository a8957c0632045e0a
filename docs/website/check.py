"""What must hold of the built site: links inside lead somewhere, and nothing is asked of others."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
RELATIONS = {"stylesheet", "icon", "preload", "modulepreload"}  # of <link>; others load nothing


class Read(HTMLParser):
    """What a page links to, what it loads, and which places it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what a tag links to, loads, or is called."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif given.get(LOADED.get(tag, "")) and (
            tag != "link" or {*given.get("rel", "").split()} & RELATIONS
        ):
            self.loads.append(given[LOADED[tag]])


def faults(site: Path) -> Iterator[str]:
    """Yields a line for each link that leads nowhere, and each load from another server."""
    pages = {path.resolve(): Read(path) for path in sorted(site.rglob("*.html"))}
    places = {path: read.places for path, read in pages.items()}
    for path, read in pages.items():
        name = path.relative_to(site.resolve())
        for url in read.loads:
            if urlsplit(url).scheme not in ("", "data") or url.startswith("//"):
                yield f"{name} loads {url}"
        for url in (*read.links, *(url for url in read.loads if not url.startswith("data:"))):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name} links to {url}: no such file"
            elif parts.fragment and unquote(parts.fragment) not in places.get(target, set()):
                yield f"{name} links to {url}: no such place"
