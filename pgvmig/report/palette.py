"""The page's colours by name, light and dark: the one place that says what anything looks like.

Old and new, and the states, are told apart by people who see no red or no green (after Okabe and Ito), and never by
colour alone. A test computes the contrast of every text on what it stands on.
"""

from __future__ import annotations

# name -> (light, dark)
COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f6f7f9", "#0e1116"),
    "card": ("#ffffff", "#161b22"),
    "sunken": ("#eef0f4", "#1f2630"),
    "line": ("#d9dde5", "#2d3643"),
    "ink": ("#15181e", "#e8ebf0"),
    "muted": ("#545c6a", "#a3adbb"),
    "link": ("#0b5394", "#7cc0f4"),
    "old": ("#0b6aa8", "#6cbcf0"),
    "new": ("#b84a00", "#ffae57"),
    "pass": ("#0b6b3a", "#57d492"),
    "pass-back": ("#e2f4ea", "#10291c"),
    "fail": ("#b3151b", "#ff8f8a"),
    "fail-back": ("#fdeaea", "#341718"),
    "wait": ("#7a5200", "#f2c14e"),
    "wait-back": ("#fdf3dc", "#2e2410"),
    "grid": ("#e4e7ed", "#28303b"),
    "stop": ("#f3d3d2", "#552325"),
    "state-added": ("#a9b1be", "#a9b3c2"),
    "state-backfilling": ("#e0a100", "#d69a12"),
    "state-ready": ("#56a5d8", "#3b8fc7"),
    "state-active": ("#3fb584", "#22a873"),
    "state-retained": ("#a678b4", "#a574b8"),
    "state-retired": ("#d3d7de", "#7c8696"),
    "on-state": ("#101318", "#0b0d11"),
    "third": ("#5b3f9e", "#b9a2f2"),
    "fourth": ("#3d6b00", "#a3cf5f"),
}


def drawn(name: str) -> str:
    """Return the colour that a plot is drawn with: a stand-in, which `variables` turns into the page's variable."""
    return f"#0e{list(COLOURS).index(name):02x}f0"


def variables(svg: str) -> str:
    """Return the drawing with the page's variables for its stand-ins, so that it follows the theme."""
    for name in COLOURS:
        svg = svg.replace(drawn(name), f"var(--{name})")
    return svg
