"""The fenced block ``mermaid``: a diagram as text, drawn when the documentation is built, without a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

# Mermaid computes every label's width with DejaVu Sans; a browser without that font takes Verdana, which is as wide.
# A label on an arrow gets 200 pixels at most, and an operator's name has no place for a break: at 14 pixels it fits.
_CONFIG = {
    "theme": "neutral",
    "fontFamily": '"DejaVu Sans", Verdana, sans-serif',
    "themeVariables": {"fontSize": "14px"},
}


class Mermaid(Directive):
    """Draws its content as SVG into the page."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        import mermaidx

        source = "\n".join(self.content)
        try:
            svg = mermaidx.render(source, config=_CONFIG).svg()
        except Exception as error:
            raise self.error(f"this diagram cannot be drawn: {error}") from error
        number = self.state.document.settings.env.new_serialno("mermaid")
        svg = svg.replace("my-svg", f"diagram-{number}")
        figure = f'<div class="diagram" role="img">{svg}</div>'
        return [nodes.raw("", figure, format="html")]


def setup(app: Any) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("mermaid", Mermaid)
    return {"version": "1", "parallel_read_safe": True}
