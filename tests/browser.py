"""What a page must be in a real browser: Debian's chromium, driven by playwright."""

import contextlib
import shutil
from pathlib import Path

import pytest

WIDTHS = {"phone": 390, "desk": 1280}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="session")
def chromium():
    """The browser, once for a process."""
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def watched(chromium, scheme, width, **given):
    """A page in which nothing may fail, and the list of what it asks for."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **given
    )
    page = context.new_page()
    wrong, asked = [], []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page, asked
    assert not wrong, wrong
    context.close()


@contextlib.contextmanager
def served(chromium, url, scheme="light", width=1280):
    """A page of a site, which may ask its own server alone."""
    own = url.split("/")[2]
    with watched(chromium, scheme, width) as (page, asked):
        page.goto(url)
        yield page
        assert [one for one in asked if own not in one and not one.startswith("data:")] == []


@contextlib.contextmanager
def opened(chromium, path, scheme="light", width=1280):
    """A page whose figures are drawn; nothing may be asked of a network, and nothing may fail."""
    with watched(chromium, scheme, width, offline=True) as (page, asked):
        page.goto(Path(path).resolve().as_uri())
        charts = page.locator(".panel").count()
        page.wait_for_function(f"document.querySelectorAll('.panel svg').length == {charts}")
        yield page
        asked = [url for url in asked if not url.startswith("data:")]
        assert asked == [page.url], [url[:80] for url in asked]


def fits(page):
    """Does the page never have to be scrolled sideways?"""
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"], f"{wide} pixels"


def is_accessible(page):
    """No serious finding of axe-core."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    said = [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:200]}"
        for one in found
        if one["impact"] in SERIOUS
    ]
    assert not said, "\n".join(said)


def check(chromium, path):
    """A page of any command: on a phone by night, and on a desk by day."""
    assert Path(path).stat().st_size < 3_000_000
    for scheme, width in (("dark", WIDTHS["phone"]), ("light", WIDTHS["desk"])):
        with opened(chromium, path, scheme, width) as page:
            fits(page)
            is_accessible(page)
