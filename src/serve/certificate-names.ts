/** One alternative name: its kind, then the name, in JSON's quotes where it holds what would be taken for more names. */
const NAME = /([A-Za-z0-9 ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy;

/**
 * URIs and DNS names of a certificate, in its order.
 *
 * @param subjectAltName  as node:tls and node:crypto write it: `URI:spiffe://door, DNS:door.example`
 * @returns               empty where it is not written so
 */
export function certificateNames(subjectAltName: string): readonly string[] {
  const names: string[] = [];
  let end = 0;
  for (const { 0: all, 1: kind, 2: text, index } of subjectAltName.matchAll(
    NAME,
  )) {
    if (index !== end) return [];
    end += all.length;
    if (kind === "URI" || kind === "DNS") names.push(unquoted(text));
  }
  return end === subjectAltName.length ? names : [];
}

function unquoted(text: string): string {
  if (!text.startsWith('"')) return text;
  const parsed: unknown = JSON.parse(text);
  return typeof parsed === "string" ? parsed : "";
}
