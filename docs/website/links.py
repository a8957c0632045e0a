"""Names of the reference and numbers of papers in running text become links."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from website import papers, reference

ARXIV = re.compile(rf"(arXiv:{papers.NUMBER})")
CODE = (nodes.literal, nodes.literal_block, nodes.title)


class LinkPapers(SphinxPostTransform):
    """Lets the number of a paper lead to it: arXiv:1803.03635."""

    default_priority = 6

    def run(self, **given: Any) -> None:
        """Looks at all running text that is no link yet."""
        for text in list(self.document.findall(nodes.Text)):
            parts = ARXIV.split(text)
            if len(parts) == 1 or isinstance(text.parent, (nodes.reference, *CODE)):
                continue
            made: list[nodes.Node] = []
            for index, part in enumerate(parts):
                if index % 2:
                    url = f"https://arxiv.org/abs/{part.removeprefix('arXiv:')}"
                    made.append(nodes.reference("", part, refuri=url, internal=False))
                else:
                    made.append(nodes.Text(part))
            text.parent.replace(text, made)


class LinkNames(SphinxPostTransform):
    """Turns literals that are full names of the reference into references to them."""

    default_priority = 5  # before references are resolved

    def run(self, **given: Any) -> None:
        """Looks at each literal that is in no link and no title yet."""
        objects = self.env.get_domain("py").data["objects"]
        for literal in list(self.document.findall(nodes.literal)):
            said = literal.astext().removesuffix("()")
            name = reference.homes().get(said, said)
            inside = isinstance(
                literal.parent, (nodes.reference, nodes.title, addnodes.pending_xref)
            )
            if "." in name and name in objects and not inside:
                link = addnodes.pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=name, refexplicit=True,
                    refdoc=self.env.current_document.docname, refwarn=True,
                )  # fmt: skip
                literal.replace_self(link)
                link += literal


class LinkTypes(SphinxPostTransform):
    """Lets a type of a signature lead to the entry of its own module, or to the only one.

    Sphinx would take the first of several that have the same name.
    """

    default_priority = 4

    def run(self, **given: Any) -> None:
        """Looks at each reference that a signature made."""
        objects = self.env.get_domain("py").data["objects"]
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("refdomain") != "py":
                continue
            module, target = link.get("py:module") or "", link["reftarget"]
            found = [name for name in objects if f".{name}".endswith(f".{target}")]
            near = [name for name in found if name in (target, f"{module}.{target}")] or found
            if len(near) == 1:
                link["reftarget"], link["refspecific"] = near[0], False
            else:
                link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the transform."""
    app.add_post_transform(LinkTypes)
    app.add_post_transform(LinkPapers)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
