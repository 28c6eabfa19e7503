import * as v from 'valibot';
import { isAlias, type ParsedNode, parseAllDocuments, visit } from 'yaml';
import { PrestageError } from '../model/errors.ts';
import { listFaults, schemaFaults } from '../model/faults.ts';
import { readReference } from '../model/reference.ts';

/** A source and its mirrors, as in the mirror sets of a cluster. */
export interface MirrorSetEntry {
  /** Registry, namespace or repository: the prefix of a reference. */
  readonly source: string;
  /** The prefixes that replace it, in order. */
  readonly mirrors: readonly string[];
  /** Kind of references that the entry applies to. */
  readonly by: 'digest' | 'tag';
}

/** A text with its path, for messages. */
export interface SetText {
  readonly text: string;
  readonly where: string;
}

/** The images that the configuration of an oc-mirror run names. */
export interface SetConfiguration {
  /** References of images and operator catalogs, each with the path where oc-mirror stores it, if the configuration sets one. */
  readonly images: readonly { readonly reference: string; readonly target: string | undefined }[];
}

const place = v.pipe(v.string(), v.check(isPlace, 'is not a registry, namespace or repository'));
const entries = v.array(v.object({ source: place, mirrors: v.optional(v.array(place), []) }));
const metadata = v.looseObject({});
/** Source: OpenShift API, config.openshift.io/v1 and operator.openshift.io/v1alpha1. */
const setSchema = v.variant('kind', [
  v.object({
    apiVersion: v.literal('config.openshift.io/v1'),
    kind: v.literal('ImageDigestMirrorSet'),
    metadata,
    spec: v.object({ imageDigestMirrors: v.optional(entries, []) }),
  }),
  v.object({
    apiVersion: v.literal('config.openshift.io/v1'),
    kind: v.literal('ImageTagMirrorSet'),
    metadata,
    spec: v.object({ imageTagMirrors: v.optional(entries, []) }),
  }),
  v.object({
    apiVersion: v.literal('operator.openshift.io/v1alpha1'),
    kind: v.literal('ImageContentSourcePolicy'),
    metadata,
    spec: v.object({ repositoryDigestMirrors: v.optional(entries, []) }),
  }),
]);

const named = v.object({ name: v.string(), targetRepo: v.optional(v.string()) });
/** Source: openshift/oc-mirror, internal/pkg/api/v2alpha1. */
const configurationSchema = v.object({
  apiVersion: v.literal('mirror.openshift.io/v2alpha1'),
  kind: v.literal('ImageSetConfiguration'),
  mirror: v.object({
    operators: v.nullish(v.array(v.object({ catalog: v.string(), targetCatalog: v.optional(v.string()) })), []),
    additionalImages: v.nullish(v.array(named), []),
  }),
});

/**
 * Reads mirror sets: IDMS, ITMS and the older ICSP. A file can have several documents, as those of oc-mirror do.
 * @throws PrestageError ERR_MIRROR_SETS with every fault and its place
 */
export function parseMirrorSets(files: readonly SetText[]): readonly MirrorSetEntry[] {
  const faults: string[] = [];
  const found = files.flatMap((file) =>
    documentsOf(file, faults).flatMap(({ value, where }): readonly MirrorSetEntry[] => {
      const parsed = v.safeParse(setSchema, value);
      if (!parsed.success) {
        faults.push(...schemaFaults(parsed.issues).map((fault) => `${where}: ${fault}`));
        return [];
      }
      return entriesOf(parsed.output);
    }),
  );
  if (faults.length > 0) throw unreadable(files, faults);
  return found;
}

/**
 * Reads the images and catalogs that the configuration of an oc-mirror run names. Catalogs do not appear in mirror sets.
 * @throws PrestageError ERR_MIRROR_SETS
 */
export function parseSetConfiguration(file: SetText): SetConfiguration {
  const faults: string[] = [];
  const images = documentsOf(file, faults).flatMap(({ value, where }) => {
    const parsed = v.safeParse(configurationSchema, value);
    if (!parsed.success) {
      faults.push(...schemaFaults(parsed.issues).map((fault) => `${where}: ${fault}`));
      return [];
    }
    const { operators, additionalImages } = parsed.output.mirror;
    return [
      ...(operators ?? []).map(({ catalog, targetCatalog }) => ({ reference: catalog, target: targetCatalog })),
      ...(additionalImages ?? []).map(({ name, targetRepo }) => ({ reference: name, target: targetRepo })),
    ];
  });
  if (faults.length > 0) throw unreadable([file], faults);
  return { images };
}

function entriesOf(set: v.InferOutput<typeof setSchema>): readonly MirrorSetEntry[] {
  switch (set.kind) {
    case 'ImageDigestMirrorSet':
      return set.spec.imageDigestMirrors.map((entry) => ({ ...entry, by: 'digest' }));
    case 'ImageTagMirrorSet':
      return set.spec.imageTagMirrors.map((entry) => ({ ...entry, by: 'tag' }));
    case 'ImageContentSourcePolicy':
      return set.spec.repositoryDigestMirrors.map((entry) => ({ ...entry, by: 'digest' }));
  }
}

/** The non-empty documents of a file. Aliases are refused: they can expand a short text enormously, and mirror sets do not need them. */
function documentsOf({ text, where }: SetText, faults: string[]): readonly { readonly value: unknown; readonly where: string }[] {
  const documents: readonly ReturnType<typeof parseAllDocuments<ParsedNode>>[number][] = [...parseAllDocuments<ParsedNode>(text)];
  return documents.flatMap((document, index) => {
    const at = documents.length === 1 ? where : `${where}, document ${index + 1}`;
    if (document.errors.length > 0) {
      faults.push(...document.errors.map((error) => `${at}: ${error.message.split('\n')[0]}`));
      return [];
    }
    let hasAlias = false;
    visit(document, (_, node) => {
      hasAlias ||= isAlias(node);
    });
    if (hasAlias) {
      faults.push(`${at}: has an alias`);
      return [];
    }
    const value: unknown = document.toJS();
    return value === null ? [] : [{ value, where: at }];
  });
}

/** True if a repository can follow the text, so that it can be the prefix of a reference. False for wildcards. */
function isPlace(text: string): boolean {
  const reference = readReference(`${text}/x/y`);
  return typeof reference !== 'string' && `${reference.registry}/${reference.repository}` === `${text}/x/y`;
}

function unreadable(files: readonly SetText[], faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_MIRROR_SETS',
    listFaults(`${files.map((file) => file.where).join(', ')} cannot be read`, faults),
    'Correct these places, or use the unchanged files of oc-mirror in working-dir/cluster-resources',
  );
}
