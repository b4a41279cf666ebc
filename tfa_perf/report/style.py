"""The style of the results page: dark and light, from a telephone's width up."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#14181f;--dim:#5b6472;--rule:#d9dde3;--soft:#f4f6f8;
--good:#15803d;--over:#1d4ed8;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--bg:#15181d;--ink:#e8ebf0;--dim:#a2abb8;--rule:#3a414c;
--soft:#1e232a;--good:#4ade80;--over:#7aa2ff;--bad:#f87171}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1320px;padding:0 20px 60px;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:26px;margin:28px 0 4px}h2{font-size:20px;margin:44px 0 8px}
h3{font-size:16px;margin:26px 0 6px}
p{max-width:80ch;margin:6px 0}.dim{color:var(--dim)}a{color:var(--over)}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:10px 0;padding:8px 0;
border-bottom:1px solid var(--rule)}
table{border-collapse:collapse;margin:12px 0;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);text-align:left;
vertical-align:top}
thead th{color:var(--dim);font-weight:500;font-size:13px;vertical-align:bottom}
tbody th{font-weight:500}
.short{white-space:nowrap}
.badge{color:var(--dim);font-weight:600;white-space:nowrap}
.CONFIRMED,.AT-LEAST,.faster{color:var(--good)}.EXCEEDED{color:var(--over)}
.REFUTED,.slower{color:var(--bad)}
.counts{display:flex;flex-wrap:wrap;gap:4px 20px;margin:10px 0}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));gap:22px}
figure{margin:0;min-width:0}figure img{width:100%;height:auto;display:block;
border:1px solid var(--rule);border-radius:6px}
figcaption{font-size:13px;color:var(--dim);margin-top:4px}
.wide{overflow-x:auto}.wide img{min-width:900px;max-width:1100px;width:100%;height:auto}
.sideways{display:none;color:var(--dim)}
iframe{width:100%;height:860px;border:1px solid var(--rule);border-radius:6px;background:var(--bg)}
details{margin:8px 0}summary{cursor:pointer;color:var(--over)}
ul{margin:6px 0;padding-left:20px}
.missing{border-left:3px solid var(--rule);padding:6px 12px;background:var(--soft)}
code{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:8px 0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
@media(max-width:760px){body{padding:0 14px 40px}
table,tbody,tr,td,tbody th{display:block}thead,td.none{display:none}
tr{border-bottom:1px solid var(--rule);padding:8px 0}
th,td{border:0;padding:1px 0}
td{display:grid;grid-template-columns:minmax(92px,40%) 1fr;gap:10px}
td::before{content:attr(data-h);color:var(--dim);font-size:13px;white-space:normal}
iframe{height:760px;width:calc(100% + 28px);margin:0 -14px;border-radius:0}.sideways{display:block}}
"""
