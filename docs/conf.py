"""Settings of Sphinx. `make docs` assembles the sources and calls it: website/__main__.py."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "Compression and dynamic networks in JAX"
author = copyright = PROJECT["authors"][0]["name"]
release = version = PROJECT["version"]

extensions = ["myst_nb", "sphinx.ext.viewcode", "sphinx_copybutton", "website.links"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "off"  # website/tutorials.py executes them
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else each page asks two servers for scripts
nb_merge_streams = True

html_theme = "furo"
html_title = project
html_favicon = str(ROOT / "docs" / "website" / "static" / "icon.svg")
html_static_path = [str(ROOT / "docs" / "website" / "static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
python_maximum_signature_line_length = 80
viewcode_follow_imported_members = True

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = False
