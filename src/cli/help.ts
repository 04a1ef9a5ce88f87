import type { CommandSpec } from './command.js';
import { commandTable } from './command-table.js';
import { mountOptions } from './options.js';

export function overview(): string {
  const rows = [...commandTable.map((command) => [command.name, command.summary]), ['version', 'print the version'], ['help [COMMAND]', 'explain a command']];
  const width = Math.max(...rows.map(([name]) => name!.length));
  return [
    'hearthfs: an S3 bucket as a directory. Hot files on the local disk, everything in S3.', '',
    'usage: hearthfs COMMAND ...', '',
    ...rows.map(([name, summary]) => `  ${name!.padEnd(width)}  ${summary}`), '',
    'All commands but mount take a mountpoint or a path inside one; without one, the working directory.',
    'Try `hearthfs demo`. HEARTHFS_DEBUG=1 shows stack traces.', '',
  ].join('\n');
}

export function commandHelp(command: CommandSpec): string {
  const flags = command.flags.map((flag) => {
    const mountOption = Object.values(mountOptions).find((option) => option === flag);
    const preset = mountOption ? (mountOption.default !== undefined && mountOption.kind === 'text' ? ` (default ${mountOption.default})` : mountOption.default === undefined ? ` (default: ${mountOption.why})` : '') : '';
    return [`--${flag.name}${flag.unit ? ` ${flag.unit}` : ''}`, flag.help + preset] as const;
  });
  const width = Math.min(32, Math.max(0, ...flags.map(([flag]) => flag.length)));
  return [
    `hearthfs ${command.name}: ${command.summary}`, '', `usage: hearthfs ${command.name} ${command.usage}${flags.length > 0 ? ' [options]' : ''}`, '',
    ...(command.description ? [wrap(command.description, 0), ''] : []),
    ...flags.map(([flag, text]) => (flag.length > width ? `  ${flag}\n${wrap(text, width + 4)}` : `  ${flag.padEnd(width)}  ${wrap(text, width + 4).trimStart()}`)),
    ...(flags.length > 0 ? [''] : []),
  ].join('\n');
}

/** Lines of at most 100 columns, each indented. */
function wrap(text: string, indent: number): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!;
    if (line !== '' && line.length + 1 + word.length > 100 - indent) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.map((line) => ' '.repeat(indent) + line).join('\n');
}
