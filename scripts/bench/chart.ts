/** The picture for README: one group of bars per workload, logarithmic, longer is faster. */
import { isRate, short, valueOf, type Figure } from './report.js';
import type { SystemName } from './systems.js';

const colours: Readonly<Record<SystemName, string>> = { ext4: '#8c959f', hearthfs: '#d4572a', s3fs: '#3b82b8', rclone: '#6a9e58', client: '#b59ad6' };
const order: readonly SystemName[] = ['ext4', 'client', 'hearthfs', 's3fs', 'rclone'];
const barsWidth = 420;
/** Of a letter of a title, on the wide side: it must not leave the picture. */
const letterWidth = 6.7;
const right = 110;
const barHeight = 11;
const groupGap = 14;
const top = 64;

/** Bars show speed: a rate as it is, a time turned upside down; each group is relative to its fastest. What only one system did compares nothing and is left out. */
export function chart(figures: readonly Figure[], latencyMs: number, notes: readonly string[]): string {
  const shown = figures.filter((figure) => (figure.latencyMs === latencyMs || figure.workload.local === true) && valueOf(figure, 'hearthfs') !== undefined && order.filter((system) => valueOf(figure, system) !== undefined).length > 1);
  const left = 24 + Math.ceil(letterWidth * Math.max(30, ...shown.map((figure) => figure.workload.title.length)));
  const width = left + barsWidth + right;
  const parts: string[] = [];
  let y = top;
  for (const figure of shown) {
    const bars = order.flatMap((system) => {
      const value = valueOf(figure, system);
      return value === undefined ? [] : [{ system, value, speed: isRate(figure.workload) ? value : 1 / value, scaled: figure.samples.get(system)!.some((sample) => sample.scaled) }];
    });
    const fastest = Math.max(...bars.map((bar) => bar.speed));
    parts.push(`<text x="${left - 12}" y="${y + (bars.length * barHeight) / 2 + 4}" text-anchor="end">${escape(figure.workload.title)}</text>`);
    for (const bar of bars) {
      // four decades: whoever is 10,000 times slower has no bar
      const length = Math.max(2, (1 + Math.log10(bar.speed / fastest) / 4) * barsWidth);
      parts.push(`<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${barHeight - 2}" rx="1.5" fill="${colours[bar.system]}"/>`);
      parts.push(`<text class="v" x="${(left + length + 5).toFixed(1)}" y="${y + 8.5}">${bar.scaled ? '≈ ' : ''}${short(bar.value)} ${figure.workload.unit}</text>`);
      y += barHeight;
    }
    y += groupGap;
  }
  const legend = order.map((system, i) => `<rect x="${left + i * 98}" y="34" width="10" height="10" fill="${colours[system]}"/><text x="${left + 15 + i * 98}" y="43">${system === 'client' ? 'plain client' : system}</text>`);
  const height = y + 10 + 14 * notes.length;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="hearthfs beside ext4, s3fs and rclone">
<style>text{font:12px system-ui,sans-serif;fill:#24292f}.v{font-size:10px;fill:#57606a}.t{font-size:15px;font-weight:600}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text class="t" x="16" y="24">Longer is faster (logarithmic); S3 answers after ${latencyMs} ms</text>
${[...legend, ...parts].join('\n')}
${notes.map((note, i) => `<text class="v" x="16" y="${y + 12 + 14 * i}">${escape(note)}</text>`).join('\n')}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
