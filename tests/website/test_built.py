"""The site as `make docs` builds it, once, and its start page in a browser."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import zlib

import pytest
from website import reference

from tests import browser
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built; warnings and links that lead nowhere are errors."""
    out = tmp_path_factory.mktemp("built") / "site"
    path = os.pathsep.join([str(ROOT / "docs"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "website", f"--out={out}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return out


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Of the site, served: axe-core reads styles by requests, which pages of files may not send."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_public_name_has_an_entry(site):
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after its heading
    entries = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
    assert set(reference.homes().values()) <= entries


def test_pages_say_what_they_are_made_of(site):
    house = (site / "house.html").read_text()
    assert "compress imports pruning" in house
    assert "Huffman (1952)" in (site / "bibliography.html").read_text()
    assert ">>> " in (site / "reference" / "pruning.html").read_text().replace("&gt;", ">")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
@pytest.mark.parametrize("page", ["index.html", "house.html", "reference/deploy.html"])
def test_pages_are_whole_in_a_browser(chromium, address, page, scheme, width):
    with browser.served(chromium, f"{address}/{page}", scheme, width) as opened:
        browser.fits(opened)
        browser.is_accessible(opened)


def test_names_in_running_text_lead_to_the_reference(chromium, address):
    with browser.served(chromium, f"{address}/guides/lottery.html") as opened:
        opened.locator("a code", has_text="lottery.iterate").first.click()
        assert opened.url.endswith("reference/lottery.html#lottery.iterate")
