/** Text that stands for itself in HTML. */
export function escapeHtml(text: string | number): string {
  return String(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** One part of a page. */
export interface ReportSection {
  readonly heading: string;
  /** Plain text under the heading. */
  readonly lede?: string;
  /** HTML: figures and tables made by this room. */
  readonly body: string;
}

/** A whole report. */
export interface ReportPage {
  readonly title: string;
  /** Plain text: what was done, in a sentence or two. */
  readonly lede: string;
  /** A few figures that stand large at the top. */
  readonly highlights?: readonly {
    readonly label: string;
    readonly value: string;
    readonly note?: string;
  }[];
  readonly sections: readonly ReportSection[];
}

/** A report as one self-contained file: no scripts, nothing loaded from elsewhere, light and dark. */
export function reportPage(page: ReportPage): string {
  const highlights = (page.highlights ?? []).map(
    ({ label, value, note }) =>
      `<div class="highlight"><div class="label">${escapeHtml(label)}</div><div class="value">${escapeHtml(value)}</div>${note === undefined ? "" : `<div class="note">${escapeHtml(note)}</div>`}</div>`,
  );
  const sections = page.sections.map(
    ({ heading, lede, body }) =>
      `<section><h2>${escapeHtml(heading)}</h2>${lede === undefined ? "" : `<p>${escapeHtml(lede)}</p>`}${body}</section>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>${escapeHtml(page.title)}</title><style>${style}</style></head>
<body><main><header><h1>${escapeHtml(page.title)}</h1><p class="lede">${escapeHtml(page.lede)}</p></header>
${highlights.length === 0 ? "" : `<div class="highlights">${highlights.join("")}</div>`}
${sections.join("\n")}
</main></body></html>
`;
}

/** A table; cells that read as numbers stand to the right. */
export function htmlTable(
  headings: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const isNumber = (cell: string | number) =>
    typeof cell === "number" || /^[-+−]?[\d.,]+ ?(%|s|min)?$/.test(cell);
  const kind = (column: number) =>
    rows.length > 0 &&
    rows.every((row) => isNumber(row[column]) || row[column] === "–")
      ? ' class="number"'
      : "";
  const kinds = headings.map((_, column) => kind(column));
  const head = headings.map(
    (cell, i) => `<th${kinds[i]}>${escapeHtml(cell)}</th>`,
  );
  const body = rows.map(
    (row) =>
      `<tr>${row.map((cell, i) => `<td${kinds[i]}>${escapeHtml(cell)}</td>`).join("")}</tr>`,
  );
  return `<div class="scroll"><table><thead><tr>${head.join("")}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}

const style = `
:root{--ink:#1b2026;--soft:#5d6773;--line:#dde2e8;--paper:#fbfbfa;--card:#fff;--good:#1d8a4c;--bad:#c8452f;
--c0:#2563a8;--c1:#d9772b;--c2:#2c8a57;--c3:#9b4f96;--c4:#a58a1b;--c5:#64707d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#323a44;--paper:#14181d;--card:#1c2229;
--good:#4cc27f;--bad:#ee7560;--c0:#6ba6e8;--c1:#f0a05c;--c2:#63c48f;--c3:#cf8bca;--c4:#d9bd4e;--c5:#98a4b0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:48px 28px 96px}
h1{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:0 0 10px}
h2{font-size:21px;letter-spacing:-.01em;margin:56px 0 6px;padding-top:18px;border-top:1px solid var(--line)}
h3{font-size:15px;margin:0 0 4px}
p{max-width:70ch;margin:6px 0 16px;color:var(--soft)}
.lede{font-size:18px}
.highlights{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:14px;margin:28px 0}
.highlight,figure{background:var(--card);border:1px solid var(--line);border-radius:10px}
.highlight{padding:14px 18px}
.label,.note,figcaption{font-size:13px;color:var(--soft)}
.value{font-size:30px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:16px}
figure{margin:0;padding:16px 18px 12px}
figure svg{display:block;width:100%;height:auto}
figcaption{margin-top:8px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--soft);margin-bottom:6px}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
svg text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;min-width:50%}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--line);text-align:left;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft)}
.number{text-align:right}
.strips{overflow-x:auto}
.strip{display:flex;gap:5px;align-items:flex-end;margin-bottom:10px}
.strip .tag{width:84px;flex:none;font-size:12px;color:var(--soft);align-self:center}
.strip .query{margin-right:14px;border-color:var(--ink)}
.crop{flex:none;border:3px solid var(--line);border-radius:5px;overflow:hidden;background:var(--card)}
.crop img{display:block;width:56px;height:112px;object-fit:fill}
.crop span{display:block;font-size:10px;text-align:center;line-height:15px;color:var(--soft)}
.match{border-color:var(--good)}.miss{border-color:var(--bad)}
.pair{margin-bottom:24px}
.sheet img{display:block;max-width:100%;border-radius:8px;image-rendering:auto}
`;
