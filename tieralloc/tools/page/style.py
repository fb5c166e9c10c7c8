"""How a page looks: light and dark, on a desk and on a phone."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --card: #ffffff; --ink: #1c1f23; --muted: #5d646d; --line: #e1e3e6;
  --head: #f2f3f4; --best: #e3f1ea; --yes: #0b6b4b; --no: #a83a00;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0608f; --c4: #c98500; --c5: #3b9fd6;
  --c6: #1c1f23;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1b1f23; --ink: #e6e8ea; --muted: #a0a8b1; --line: #343a41;
    --head: #22272c; --best: #1d3a2f; --yes: #6fd3ac; --no: #ff9e6b;
    --c0: #58aee6; --c1: #f08a4b; --c2: #3ecf9f; --c3: #df9cc4; --c4: #f0b43c; --c5: #9bd4f5;
    --c6: #e6e8ea;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 var(--sans); }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; padding-top: .8rem;
  border-top: 2px solid var(--line); overflow-wrap: anywhere; }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .35rem 0; max-width: 62rem; overflow-wrap: anywhere; }
.note, footer { color: var(--muted); font-size: .875rem; }
nav { margin: .8rem 0 0; font-size: .9rem; }
nav a { color: inherit; margin-right: 1rem; text-decoration-color: var(--muted); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0 0;
  font-size: .875rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.scroll { overflow-x: auto; margin: .5rem 0; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .75rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--head); font-weight: 600; vertical-align: bottom; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card);
  font-weight: 600; max-width: min(45vw, 24rem); min-width: 8rem; overflow-wrap: anywhere;
  white-space: normal; }
thead th:first-child { background: var(--head); }
th.words, td.words { text-align: left; white-space: normal; min-width: 7rem; max-width: 26rem; }
td small, th small { color: var(--muted); font-size: .78rem; font-weight: 400; }
td small { margin-left: .6rem; }
th small { display: block; }
td.best { background: var(--best); font-weight: 600; }
td.yes { color: var(--yes); font-weight: 600; }
td.no { color: var(--no); font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23.5rem), 1fr));
  gap: .8rem; margin: .6rem 0; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17.5rem), 1fr)); }
.grid.lone { grid-template-columns: minmax(0, 38rem); }
figure { margin: 0; padding: .7rem .8rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); min-width: 0; }
figcaption { font-size: .875rem; font-weight: 600; margin-bottom: .45rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); overflow: visible; }
figure svg text { fill: currentColor; font-family: var(--sans) !important; }
.bars { display: grid; grid-template-columns: fit-content(45%) minmax(3rem, 1fr) max-content;
  gap: .28rem .6rem; align-items: center; font-size: .84rem; font-variant-numeric: tabular-nums; }
.bars .name { overflow-wrap: anywhere; line-height: 1.2; }
.bars .value { text-align: right; color: var(--muted); }
.track { display: flex; height: .8rem; background: var(--head); border-radius: 3px;
  overflow: hidden; position: relative; }
.mark { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--ink); }
.fill { flex: none; height: 100%; }
.c0 { background: var(--c0); } .c1 { background: var(--c1); } .c2 { background: var(--c2); }
.c3 { background: var(--c3); } .c4 { background: var(--c4); } .c5 { background: var(--c5); }
.c6 { background: var(--muted); }
.legend { font-size: .84rem; color: var(--muted); }
.legend span { margin-right: 1rem; white-space: nowrap; }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px;
  margin-right: .35rem; vertical-align: -.05rem; }
details { margin: 1.2rem 0 0; }
summary { cursor: pointer; color: var(--muted); font-size: .9rem; }
@media (max-width: 34rem) {
  main { padding: 1rem .75rem 3rem; }
  h1 { font-size: 1.3rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .35rem; }
  th, td { padding: .3rem .55rem; }
  td small { display: block; margin: 0; }
}
@media print { .scroll { overflow: visible; } }
"""
