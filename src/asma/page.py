"""What the HTML pages of `asma data` share: one file without a network, light and dark, the colours of the plots."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from .plots import FAINT, INK, MUTED, PALETTE

__all__ = ["PERSONS", "page"]

BLUE, ORANGE, GREEN, PINK, VERMILION, SKY = PALETTE[:6]
PERSONS = ("#1b7f5c", "#b0538c", "#9a6a00", "#2f7fb5")
"""On white; the encoders have blue and vermilion."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Nothing is fetched and no script runs but the page's own, whatever a name from a file manages to smuggle in."""

STYLE = f"""
:root {{
  color-scheme: light dark;
  --paper: #ffffff; --ground: #f4f6f8; --ink: {INK}; --muted: {MUTED}; --faint: {FAINT}; --line: #dfe4e9;
  --soft: #eef2f5; --blue: {BLUE}; --orange: {ORANGE}; --green: {GREEN}; --vermilion: {VERMILION};
  --error: #b42318; --error-soft: #fdecea; --warning: #8a5a00; --warning-soft: #fdf3dc; --note: #33566f;
  --note-soft: #e6f0f7; --good: #067647; --good-soft: #e3f5ec;
  --person-0: {PERSONS[0]}; --person-1: {PERSONS[1]}; --person-2: {PERSONS[2]}; --person-3: {PERSONS[3]};
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: #1a2027; --ground: #11161b; --ink: #e6eaee; --muted: #9aa7b4; --faint: #55626f; --line: #2d3741;
    --soft: #232b34; --blue: {SKY}; --orange: {ORANGE}; --green: #2ec49a; --vermilion: #ff8a4c;
    --error: #ff9c8f; --error-soft: #45201d; --warning: #f2c063; --warning-soft: #3d3015; --note: #9cc7e6;
    --note-soft: #1d3141; --good: #6bdba6; --good-soft: #14382a;
    --person-0: #4cd1a5; --person-1: {PINK}; --person-2: {ORANGE}; --person-3: {SKY};
  }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--ground); color: var(--ink); }}
body {{ font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }}
header, main, footer {{ max-width: 1180px; margin: 0 auto; padding: 0 28px; }}
header {{ padding-top: 36px; }}
h1 {{ font-size: 30px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; overflow-wrap: anywhere; }}
h2 {{ font-size: 20px; margin: 0 0 4px; }}
section {{ background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }}
section {{ padding: 20px 24px 24px; margin: 0 0 20px; }}
section > p {{ margin: 0 0 14px; color: var(--muted); max-width: 60em; }}
dl {{ display: flex; flex-wrap: wrap; gap: 10px 32px; margin: 0 0 24px; }}
dt {{ font-size: 13px; color: var(--muted); }}
dd {{ margin: 0; font-weight: 600; overflow-wrap: anywhere; }}
code {{ font: 0.94em ui-monospace, "DejaVu Sans Mono", monospace; }}
:focus-visible {{ outline: 2px solid var(--blue); outline-offset: 2px; }}
footer {{ color: var(--muted); font-size: 14px; padding-bottom: 36px; }}
@media (max-width: 640px) {{ header, main, footer {{ padding-left: 14px; padding-right: 14px; }} }}
@media print {{ section {{ break-inside: avoid; }} }}
"""


def page(title: str, body: str, style: str, script: str = "") -> str:
    """A whole page. `title` is text; `body`, `style` and `script` are what they are, with all names escaped."""
    code, policy = "", POLICY
    if script:
        code = f"<script>{script}</script>\n"
        policy += f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
{body}
{code}</body>
</html>
"""
