"""Style of the flame graph page."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--ink:#14181f;--dim:#5b6472;--line:#d9dde3;--paper:#fff;
--warn:#8a4b00;--bar:#8fb4de}
@media (prefers-color-scheme:dark){
:root{--ink:#e8ebf0;--dim:#a2abb8;--line:#3a414c;--paper:#15181d;--warn:#f2b866;--bar:#3f6692}}
html{overflow-y:scroll}#flame{overflow:hidden}
*{box-sizing:border-box}[hidden]{display:none!important}
body{margin:0 auto;max-width:1500px;padding:16px;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:20px;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:16px;margin:0 0 2px;overflow-wrap:anywhere}
p{margin:0 0 8px;color:var(--dim);font-size:13px;overflow-wrap:anywhere}
p.verdict{color:var(--ink);font-weight:600}
p.warning{color:var(--warn)}p.warning::before{content:"warning: "}
.runs{display:flex;flex-wrap:wrap;gap:12px 32px;margin:12px 0}
section{flex:1 1 340px;min-width:0;max-width:640px}
section p{margin-top:4px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:2px 6px;text-align:right;border-bottom:1px solid var(--line);font-weight:400;
white-space:nowrap}
th:first-child{text-align:left;padding-left:0}thead th{color:var(--dim)}
th i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
.wide{overflow-x:auto;margin:8px 0}.overview{width:auto;min-width:50%}.slowest th{font-weight:600}
td.words,th.words{text-align:left}td.frame{text-align:left;white-space:normal;overflow-wrap:anywhere}
.grew{color:#c02b1d}.shrank{color:#1c5fb0}
@media (prefers-color-scheme:dark){.grew{color:#ff8a7a}.shrank{color:#7db4f5}}
.bar{position:relative;width:30%}.bar span{position:relative}
.bar b{position:absolute;left:0;top:4px;bottom:4px;border-radius:2px;opacity:.75;
background:var(--bar)}
.controls{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;font-size:13px;
margin:12px 0 6px}
.controls label{color:var(--dim)}
select,input{font:inherit;color:var(--ink);background:var(--paper);border:1px solid var(--line);
border-radius:4px;padding:3px 6px;max-width:100%}
#find{flex:0 1 260px}#found{color:var(--ink)}
#info{min-height:2.9em}
@media (max-width:480px){body{padding:10px}th,td{padding:2px 4px}.bar{width:20%}
.overview .bar{min-width:90px}#find{flex:1 1 100%}select{max-width:270px}
.difference tr{display:grid;grid-template-columns:2fr 1fr 1fr 1fr}
.difference thead th:nth-child(n+5){display:none}
.difference td:nth-child(n+5){grid-row:2;white-space:normal}
.difference td:nth-child(5){grid-column:3/-1}
.difference td:nth-child(6){grid-column:1/3;padding-left:0}
.difference tbody th,.difference td:nth-child(-n+4){border:0}}
"""
