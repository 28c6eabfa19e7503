import { PrestageError } from './errors.ts';
import { listFaults, quoteInput } from './faults.ts';
import type { ListedImage } from './image-list.ts';
import { type Reference, readReference } from './reference.ts';
import { linesOf } from './text-lines.ts';

/** The content of mapping.txt. */
export interface Mapping {
  /** Source exactly as in the file -> tag of its destination. Sources whose destination has no tag are left out. */
  readonly tags: ReadonlyMap<string, string>;
  /** Ignored lines and their places, for the log. */
  readonly notices: readonly string[];
}

/** The mapping of a folder without mapping.txt. */
export const NO_MAPPING: Mapping = { tags: new Map(), notices: [] };

/** `file://`, `docker://`: oc-mirror writes the kind of the destination in front of it. */
const SCHEME = /^[a-z][a-z0-9+.-]*:\/\/\/?/;

/**
 * Reads oc-mirror's mapping.txt: lines `source=destination`; the destination is `repository[:tag]` with or without a registry and a scheme.
 * If a source has several destination tags, the first line counts, and a notice reports the others.
 * Source: docs/field-facts.md, "Folder of the factory-precaching tool"; oc-mirror v1, pkg/image/mapping.go (exactly one `=` a line).
 * @param where path of the file, for messages
 * @throws PrestageError ERR_MAPPING with every fault and its place
 */
export function parseMapping(text: string, where: string): Mapping {
  const found = new Map<string, { readonly tag: string; readonly line: number }>();
  const notices: string[] = [];
  const faults: string[] = [];
  for (const { content, line } of linesOf(text)) {
    const trimmed = content.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const entry = readEntry(trimmed);
    if (typeof entry === 'string') {
      faults.push(`${where}:${line}: ${entry}`);
      continue;
    }
    if (entry.tag === undefined) continue;
    const earlier = found.get(entry.source);
    if (earlier === undefined) found.set(entry.source, { tag: entry.tag, line });
    else if (earlier.tag !== entry.tag) {
      notices.push(
        `${where}:${line}: ${entry.source} already has the tag ${earlier.tag} at ${where}:${earlier.line}, ${entry.tag} is ignored`,
      );
    }
  }
  if (faults.length > 0) throw new PrestageError('ERR_MAPPING', listFaults(`${where} cannot be read`, faults), REMEDY);
  return { tags: new Map([...found].map(([source, { tag }]) => [source, tag])), notices };
}

/**
 * The second reference under which an image is loaded. An image that is listed only by digest and is in the mapping gets its own repository
 * with the tag of the destination. Sources are compared as a whole, never as patterns.
 */
export function extraTagFor(image: ListedImage, mapping: Mapping): Reference | undefined {
  const { registry, repository, tag, digest } = image.reference;
  const mapped = mapping.tags.get(image.text);
  if (mapped === undefined || digest === undefined || tag !== undefined) return undefined;
  return { registry, repository, tag: mapped };
}

/** Source and tag of a line, or a description of its fault. */
function readEntry(content: string): { readonly source: string; readonly tag: string | undefined } | string {
  const [source = '', destination = '', ...rest] = content.split('=').map((side) => side.trim());
  if (source === '' || destination === '' || rest.length > 0) return `${quoteInput(content)} is not source=destination`;
  const reference = readReference(destination.replace(SCHEME, ''));
  return typeof reference === 'string' ? reference : { source, tag: reference.tag };
}

const REMEDY = 'Copy mapping.txt again from the workspace of oc-mirror, or remove it: images listed by digest then get no tag';
