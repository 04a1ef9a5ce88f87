/** Test and demo equipment, not product: writing XML replies and reading the small XML bodies clients send. */
import { S3Error } from './errors.js';

export const xmlHead = '<?xml version="1.0" encoding="UTF-8"?>\n';
export const s3Namespace = 'http://s3.amazonaws.com/doc/2006-03-01/';

const special = /[&<>"\r\u0000-\u0008\u000b\u000c\u000e-\u001f]/;

export function escapeXml(text: string): string {
  if (!special.test(text)) return text;
  let out = '';
  for (const char of text) {
    const code = char.charCodeAt(0);
    if (char === '&') out += '&amp;';
    else if (char === '<') out += '&lt;';
    else if (char === '>') out += '&gt;';
    else if (char === '"') out += '&quot;';
    else if (code < 0x20 && char !== '\n' && char !== '\t') out += `&#x${code.toString(16)};`;
    else out += char;
  }
  return out;
}

/** `<name>text</name>`, or nothing where the value is undefined. */
export function tag(name: string, value: string | number | boolean | undefined): string {
  return value === undefined ? '' : `<${name}>${typeof value === 'string' ? escapeXml(value) : String(value)}</${name}>`;
}

export function document(root: string, inner: string): string {
  return `${xmlHead}<${root} xmlns="${s3Namespace}">${inner}</${root}>`;
}

export interface XmlNode { readonly name: string; text: string; readonly children: XmlNode[] }

export function child(node: XmlNode, name: string): XmlNode | undefined {
  return node.children.find((one) => one.name === name);
}
export function childText(node: XmlNode, name: string): string | undefined {
  return child(node, name)?.text;
}
export function childrenOf(node: XmlNode, name: string): XmlNode[] {
  return node.children.filter((one) => one.name === name);
}

/** Elements and text only: attributes and prefixes are dropped, comments and declarations skipped. @throws S3Error MalformedXML */
export function parseXml(text: string): XmlNode {
  const root: XmlNode = { name: '', text: '', children: [] };
  const stack: XmlNode[] = [root];
  let at = 0;
  while (at < text.length) {
    const open = text.indexOf('<', at);
    const top = stack[stack.length - 1]!;
    if (open < 0) {
      top.text += unescapeXml(text.slice(at));
      break;
    }
    if (open > at) top.text += unescapeXml(text.slice(at, open));
    if (text.startsWith('<!--', open)) {
      at = endOf(text, '-->', open);
    } else if (text.startsWith('<![CDATA[', open)) {
      at = endOf(text, ']]>', open);
      top.text += text.slice(open + 9, at - 3);
    } else if (text[open + 1] === '?' || text[open + 1] === '!') {
      at = endOf(text, '>', open);
    } else {
      at = endOf(text, '>', open);
      const inside = text.slice(open + 1, at - 1);
      if (inside.startsWith('/')) {
        if (stack.length === 1 || localName(inside.slice(1)) !== top.name) throw new S3Error('MalformedXML');
        stack.pop();
      } else {
        const closed = inside.endsWith('/');
        const node: XmlNode = { name: localName(closed ? inside.slice(0, -1) : inside), text: '', children: [] };
        top.children.push(node);
        if (!closed) stack.push(node);
      }
    }
  }
  const document = root.children[0];
  if (stack.length !== 1 || !document || root.children.length !== 1) throw new S3Error('MalformedXML');
  return document;
}

function endOf(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from);
  if (found < 0) throw new S3Error('MalformedXML');
  return found + mark.length;
}

function localName(tagText: string): string {
  const name = /^[^\s]+/.exec(tagText)?.[0] ?? '';
  if (name === '') throw new S3Error('MalformedXML');
  return name.slice(name.indexOf(':') + 1);
}

const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(#x[0-9a-fA-F]+|#[0-9]+|\w+);/g, (whole, entity: string) => {
    if (entity.startsWith('#x')) return String.fromCodePoint(parseInt(entity.slice(2), 16));
    if (entity.startsWith('#')) return String.fromCodePoint(parseInt(entity.slice(1), 10));
    return named[entity] ?? whole;
  });
}
