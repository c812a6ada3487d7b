"""The parts of HTML pages that several rooms make: one stylesheet, one frame, bars of probabilities."""

import html
from collections.abc import Iterable

_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1c1e21; --soft: #6b7280; --line: #e3e6ea; --good: #2f7d4f;
  --bad: #c0392b; --bar: #4c78a8; --other: #b8c7d9; --drag: #b7791f }
@media (prefers-color-scheme: dark) { :root { --bg: #16181b; --fg: #e6e8ea; --soft: #9aa3ad; --line: #2c3036;
  --good: #5fbf86; --bad: #ef7a6d; --bar: #7aa6d6; --other: #41566e; --drag: #d9a441 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: var(--fg);
  background: var(--bg) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.verdict { font-weight: 600 }
.digest { font: 12px ui-monospace, monospace; overflow-wrap: anywhere } .PASS { color: var(--good) } .FAIL { color: var(--bad) } .soft { color: var(--soft) }
table { border-collapse: collapse; width: 100%; font-size: 13px } td, th { padding: .25rem .5rem; text-align: left;
  border-bottom: 1px solid var(--line); white-space: nowrap } td:first-child { white-space: normal } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums } td.scale { width: 30%; min-width: 9rem }
.track { position: relative; height: 12px; background: var(--line); border-radius: 2px }
.track i { position: absolute; left: 0; top: 0; bottom: 0; background: var(--good); border-radius: 2px }
.track i.FAIL { background: var(--bad) } .track b { position: absolute; top: -3px; bottom: -3px; width: 2px;
  background: var(--fg) }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem }
.photo { border: 1px solid var(--line); border-radius: 6px; padding: .75rem; font-size: 13px; display: flex; gap: .75rem }
.photo img { flex: none; width: 96px; height: 96px; object-fit: cover; border-radius: 4px }
.photo > div { flex: 1; min-width: 0; overflow-wrap: anywhere }
.row { display: grid; grid-template-columns: 1fr 5.2rem; gap: .5rem; align-items: center }
.row span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.meter { position: relative; height: 16px; background: var(--line); border-radius: 2px; font-size: 11px; text-align: right }
.meter i { position: absolute; left: 0; top: 0; bottom: 0; background: var(--bar); opacity: .55; border-radius: 2px }
.meter em { position: relative; font-style: normal; padding-right: 3px }
td .meter { min-width: 7rem } td.wrap { white-space: normal } p.close { margin: 0 } p.close + table { margin-top: 1rem } .seen { display: flex; gap: 1.5rem;
  margin-top: 1rem; align-items: start } .top { flex: 1; max-width: 26rem } .top h2 { margin-top: 0 }
img.drawn { display: block; max-width: 100% } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere } .wide { overflow-x: auto } pre { overflow-x: auto }
.row .meter { background: none } tr.first td { background: color-mix(in srgb, var(--bad) 16%, transparent); font-weight: 600 }
.track i.dragged { background: var(--drag) } .dragged { color: var(--drag) }
@media (prefers-color-scheme: dark) { img.chart { filter: invert(.9) hue-rotate(180deg) } }
h3 { font-size: .8rem; margin: .5rem 0 .1rem; color: var(--soft); font-weight: 600 }
"""


def table(rows: str) -> str:
    """A table of `rows` of HTML, which scrolls by itself where the page is too narrow for it."""
    return f"<div class=wide><table>{rows}</table></div>"


def page(title: str, body: str) -> str:
    """A whole page of HTML in the look of all our pages."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def meters(top: Iterable[tuple[str, float]]) -> str:
    """Bars of (class name, probability) pairs."""
    return "".join(
        f"<div class=row><span>{html.escape(name.split(',')[0])}</span><div class=meter>"
        f"<i style='width:{min(100 * share, 100):.1f}%'></i><em>{100 * share:.2f} %</em></div></div>"
        for name, share in top
    )
