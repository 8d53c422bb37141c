"""The report page's style sheet: light, one column on a phone, tabular figures, nothing fetched."""

STYLE = """
:root { --ink: #1d2733; --soft: #56616e; --line: #e4e8ed; --accent: #0062a3; --paper: #fff; --wash: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink); font: 16px/1.55 "Avenir Next", "Segoe UI", Inter,
  "Helvetica Neue", Roboto, "Noto Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 64px; }
h1, h2 { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia, "Noto Serif", serif;
  font-weight: 600; line-height: 1.15; letter-spacing: -0.01em; }
h1 { font-size: clamp(2.2rem, 6vw, 3.4rem); margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.5rem; margin: 0 0 4px; }
h3 { font-size: 0.85rem; margin: 0; font-weight: 600; color: var(--soft); }
p { margin: 0; }
.eyebrow { font-size: 0.75rem; letter-spacing: 0.14em; text-transform: uppercase; color: var(--accent);
  font-weight: 600; margin-bottom: 8px; }
.when { color: var(--soft); margin-top: 6px; }
.lead { font-size: clamp(1.1rem, 2.6vw, 1.4rem); line-height: 1.45; margin: 28px 0 24px; max-width: 48rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 16px; }
.card, section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 18px 20px; border-top: 3px solid; }
.figure { font-size: 2.2rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.range, .note { font-size: 0.85rem; color: var(--soft); font-variant-numeric: tabular-nums; }
section { margin-top: 24px; padding: 26px 28px 28px; min-width: 0; }
.intro { color: var(--soft); margin-bottom: 18px; max-width: 46rem; }
.empty { color: var(--soft); border-left: 3px solid var(--line); padding-left: 12px; }
.summary { font-size: 1.02rem; margin-bottom: 18px; max-width: 46rem; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 12px; background: var(--paper); padding: 6px 10px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 22px; font-size: 0.9rem; }
a { color: var(--accent); }
caption { text-align: left; color: var(--soft); font-size: 0.85rem; padding-bottom: 6px; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--accent); font-weight: 500; font-size: 0.9rem; }
h3.part { margin: 26px 0 6px; font-size: 0.95rem; color: var(--ink); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 0 24px; }
img { display: block; width: 100%; height: auto; }
.meanings { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr));
  gap: 10px 28px; margin: 20px 0 0; font-size: 0.85rem; }
.meanings dt { font-weight: 600; }
.meanings dd { margin: 0; color: var(--soft); }
.meanings i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; }
.scroll { overflow-x: auto; margin-top: 20px; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
th, td { padding: 8px 12px 8px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; font-size: 0.78rem; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.number { text-align: right; padding: 8px 0 8px 16px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.number + :not(.number) { padding-left: 22px; }
.words { min-width: 19rem; }
td small { display: block; color: var(--soft); font-size: 0.75rem; }
tr.strong th, tr.strong td { font-weight: 650; }
tr.strong small { font-weight: 400; }
.lists { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); gap: 20px; }
.list { border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px; min-width: 0;
  overflow-wrap: anywhere; }
.list h3 { color: var(--ink); font-size: 1rem; }
.past { font-size: 0.85rem; color: var(--soft); margin: 4px 0 12px; }
.list ol { list-style: none; margin: 0; padding: 0; }
.list li { display: grid; grid-template-columns: 1.7rem minmax(0, 1fr) auto; column-gap: 8px; padding: 8px 0;
  border-top: 1px solid var(--line); align-items: baseline; }
.rank { color: var(--accent); font-weight: 600; font-variant-numeric: tabular-nums; }
.title { font-weight: 500; line-height: 1.35; }
.score { font-size: 0.8rem; color: var(--soft); font-variant-numeric: tabular-nums; text-align: right; }
.reasons { grid-column: 2 / -1; font-size: 0.86rem; color: var(--soft); line-height: 1.45; }
footer { margin-top: 28px; font-size: 0.8rem; color: var(--soft); }
@media (max-width: 600px) {
  main { padding: 28px 14px 40px; }
  section { padding: 20px 16px; margin-top: 16px; }
  .cards { grid-template-columns: 1fr 1fr; gap: 12px; }
  .card { padding: 14px 16px; }
  .card:first-child { grid-column: 1 / -1; }
  .figure { font-size: 1.9rem; }
  .list { padding: 14px; }
  tbody th { white-space: normal; min-width: 7rem; }
}
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""
