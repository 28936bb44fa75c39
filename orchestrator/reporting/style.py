"""The page's style sheet and its one small script; both stand in the page, and their digests in its policy."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#18202b;--soft:#566173;--line:#e1e5eb;--lane:#f0f2f6;
--good:#1b7f4d;--bad:#c2322d;--warn:#9a5b00;--info:#2962c4;--soak:#7fb4e6;--wait:#e9b44c;--wait-line:#9a6a00;
--idle:#8a94a3;--back:#c2322d;--on:#fff;--forbidden:#c2322d14}
@media(prefers-color-scheme:dark){:root{--bg:#0f1319;--card:#171d25;--ink:#e4e9f0;--soft:#98a5b6;--line:#2a323d;
--lane:#1c232c;--good:#45c184;--bad:#ff756d;--warn:#eab04f;--info:#78aaff;--soak:#3d6ea3;--wait:#8a6520;
--wait-line:#f0c469;--idle:#6b7685;--back:#e0554e;--on:#0f1319;--forbidden:#ff756d1c}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px}
a{color:var(--info)}
.skip{position:absolute;left:-99em}.skip:focus{left:8px;top:8px;background:var(--card);padding:6px 10px}
:focus-visible{outline:3px solid var(--info);outline-offset:2px}
h1{font-size:1.5rem;margin:8px 0 0;line-height:1.25;overflow-wrap:anywhere}
h2{font-size:1.08rem;margin:0 0 10px}h3{font-size:.95rem;margin:14px 0 4px}h3 small{font-weight:400;font-size:.82rem}
section,header{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;margin:0 0 16px}
header{border-top:6px solid var(--tone)}
.t-good{--tone:var(--good)}.t-bad{--tone:var(--bad)}.t-warn{--tone:var(--warn)}.t-info{--tone:var(--info)}
.outcome{display:inline-block;color:var(--on);background:var(--tone);border-radius:99px;padding:2px 12px;
font-weight:650;font-size:.85rem}
.verdict{font-size:1.15rem;margin:12px 0 0;max-width:70ch;overflow-wrap:anywhere}
.soft,small,figcaption,.legend{color:var(--soft)}
nav{font-size:.88rem;margin:0 0 16px;display:flex;flex-wrap:wrap;gap:4px 16px}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px 20px;margin:16px 0 0}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere;unicode-bidi:isolate}
dd small{font-weight:400;display:block}
.scroll{overflow-x:auto}
.scroll.tall{max-height:560px;overflow-y:auto}
.scroll.tall th{position:sticky;top:0;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
unicode-bidi:isolate}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td{white-space:nowrap}td.w{white-space:normal;overflow-wrap:anywhere;min-width:18em}
code,pre{font:.84em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{overflow:auto;max-height:420px}
code{overflow-wrap:anywhere}
.tag{font-weight:650;white-space:nowrap}
.tag.pass,.tag.committed,.tag.proven,.tag.ok{color:var(--good)}
.tag.fail,.tag.failed,.tag.stranded,.tag.error{color:var(--bad)}
.tag.caution,.tag.inconclusive,.tag.returned,.tag.returning{color:var(--warn)}
.timeline{min-width:700px;width:100%;display:block}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .axis,svg .beside{fill:var(--soft);font-size:11px}svg .name{font-weight:600}
.lane{fill:none}.lane.odd{fill:var(--lane)}
.tick{stroke:var(--line)}.restart{stroke:var(--soft);stroke-dasharray:3 4}
.bar.progressing,.swatch.progressing{fill:var(--info);background:var(--info)}
.bar.soaking,.swatch.soaking{fill:var(--soak);background:var(--soak)}
.bar.waiting{fill:url(#hatch)}.bar.frozen,.swatch.frozen{fill:var(--idle);background:var(--idle)}
.bar.rolling_back,.swatch.rolling_back{fill:var(--back);background:var(--back)}
.swatch.waiting{background:repeating-linear-gradient(45deg,var(--wait) 0 4px,var(--wait-line) 4px 6px)}
.hatch-back{fill:var(--wait)}.hatch-line{stroke:var(--wait-line);stroke-width:4}
.gate path{fill:var(--idle);stroke:var(--card);stroke-width:2}.gate text{fill:var(--on);font-weight:700}
.gate.pass path{fill:var(--good)}.gate.fail path{fill:var(--bad)}.gate.caution path{fill:var(--warn)}
.person{fill:var(--card);stroke:var(--ink);stroke-width:2.5}.person.refused{stroke:var(--bad);stroke-dasharray:3 2}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.8rem;margin:10px 0 0}
.legend span{display:inline-flex;align-items:center;gap:6px}
.swatch{width:18px;height:11px;border-radius:3px;display:inline-block}
.mark{display:inline-grid;place-items:center;width:17px;height:17px;border-radius:4px;color:var(--on);
background:var(--idle);font-size:11px}
.mark.pass{background:var(--good)}.mark.fail{background:var(--bad)}.mark.caution{background:var(--warn)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:16px}
figure{margin:0;border:1px solid var(--line);border-radius:10px;padding:12px;min-width:0}
figcaption{font-size:.82rem;overflow-wrap:anywhere}figcaption b{color:var(--ink);font-size:.95rem}
.plot{width:100%;display:block;margin-top:6px}
.plot polyline{fill:none;stroke-width:2}
.plot .observed{stroke:var(--info)}polyline.limit{stroke:var(--bad);stroke-dasharray:6 4}
polyline.baseline{stroke:var(--soft);stroke-dasharray:2 4}
.label.limit{fill:var(--bad)}.label.baseline{fill:var(--soft)}svg .label{font-size:11px}
.forbidden{fill:var(--forbidden)}.axis-line{stroke:var(--line)}
.point{stroke:var(--card);stroke-width:1.5;fill:var(--good)}
.point.fail{stroke:var(--bad);stroke-width:3;fill:none}.point.caution{fill:var(--warn)}
.point.inconclusive{fill:var(--card);stroke:var(--soft);stroke-width:2}
.m{line-height:0;margin:0 0 6px}
.m i,.key i{display:inline-grid;place-items:center;width:17px;height:17px;margin:1px;border-radius:4px;
background:var(--idle);color:var(--on);font:700 11px/1 system-ui,sans-serif}
.m i:before,.key i:before{content:"·"}
.key{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:.8rem;color:var(--soft);margin:0 0 6px}
.key span{display:inline-flex;align-items:center;gap:5px}
i.c{background:var(--good)}.m i.c:before,.key i.c:before{content:"✓"}
i.v{background:var(--info)}.m i.v:before,.key i.v:before{content:"✓"}
i.g,i.o{background:var(--info)}.m i.g:before,.key i.g:before{content:"▸"}
.m i.o:before,.key i.o:before{content:"…"}
i.f{background:var(--bad)}.m i.f:before,.key i.f:before{content:"✕"}
i.s{background:var(--bad)}.m i.s:before,.key i.s:before{content:"!"}
i.r{background:var(--warn)}.m i.r:before,.key i.r:before{content:"↩"}
i.b{background:var(--warn)}.m i.b:before,.key i.b:before{content:"←"}
.m i.h:before,.key i.h:before{content:"‖"}.m i.k:before,.key i.k:before{content:"–"}
.stack{width:100%;height:20px;border-radius:5px;display:block;background:var(--lane)}
.p-committed{fill:var(--good)}.p-proven,.p-granted,.p-ordered{fill:var(--info)}.p-failed,.p-stranded{fill:var(--bad)}
.p-returned,.p-returning{fill:var(--warn)}.p-pending,.p-held,.p-skipped{fill:var(--idle)}
.incident{border-left:6px solid var(--bad)}
.incident ol,.incident ul{margin:4px 0;padding-left:1.4em}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:4px 28px}
.notice{border-left:4px solid var(--warn);padding-left:12px}
.find{display:flex;gap:16px;flex-wrap:wrap;align-items:center;margin:0 0 10px}
.find[hidden]{display:none}
input[type=search]{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);border-radius:8px;
padding:5px 10px;width:min(100%,20em)}
@media(max-width:640px){main{padding:10px}section,header{padding:14px;border-radius:10px}h1{font-size:1.25rem}
.verdict{font-size:1.02rem}.stick td:first-child,.stick th:first-child{position:sticky;left:0;background:var(--card)}}
@media print{:root{--bg:#fff}body{font-size:11px}main{max-width:none;padding:0}section,header{break-inside:auto;
border:0;border-bottom:1px solid #999;border-radius:0;padding:8px 0}nav,.find{display:none!important}
.scroll,.scroll.tall,pre{overflow:visible;max-height:none}figure,tr,.incident{break-inside:avoid}.timeline{min-width:0}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

SCRIPT: Final = """
(()=>{const box=document.querySelector(".find");if(!box)return;box.hidden=false;
const text=box.querySelector("[type=search]"),only=box.querySelector("[type=checkbox]"),
count=box.querySelector("output"),
rows=[...document.querySelectorAll("#device-rows tbody tr")];
const show=()=>{const words=text.value.toLowerCase();let n=0;for(const row of rows){
const on=row.textContent.toLowerCase().includes(words)&&(!only.checked||row.className==="x");row.hidden=!on;n+=on}
count.textContent=n+" shown"};text.oninput=only.onchange=show;show()})()
"""
