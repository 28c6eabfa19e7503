import * as v from 'valibot';
import { parse } from 'yaml';
import { messageOf, PrestageError } from '../../model/errors.ts';
import { schemaFaults } from '../../model/faults.ts';
import { STAGES, type Stage } from '../../model/stage.ts';

/** An image as factory commands list it. */
export interface NamedImage {
  readonly reference: string;
  /** Component of the release, or name of the related image; undefined if nothing names it. */
  readonly component: string | undefined;
}

/** A row of the classification: these stages need the images whose component or repository matches. The first matching row counts. */
export interface ClassificationRow {
  /** Component name, `*` stands for any text. */
  readonly component?: string | undefined;
  /** Reference without tag and digest, `*` stands for any text. */
  readonly repository?: string | undefined;
  readonly stages: readonly Stage[];
}

/** Component name that stands for the release image itself. */
export const RELEASE_COMPONENT = 'release';

const BOTH: readonly Stage[] = ['discovery', 'installed'];

/** Components of a release that the discovery stage needs as well. */
const DISCOVERY_COMPONENTS: readonly string[] = [
  'must-gather',
  'hyperkube',
  'cloud-credential-operator',
  'cluster-policy-controller',
  'pod',
  'cluster-config-operator',
  'cluster-etcd-operator',
  'cluster-kube-controller-manager-operator',
  'cluster-kube-scheduler-operator',
  'machine-config-operator',
  'etcd',
  'cluster-bootstrap',
  'cluster-ingress-operator',
  'cluster-kube-apiserver-operator',
];

/**
 * The stages that need an image. Source: docs/field-facts.md, "Classification".
 * A user's own rows come before these.
 */
export const CLASSIFICATION: readonly ClassificationRow[] = [
  { component: RELEASE_COMPONENT, stages: BOTH },
  ...DISCOVERY_COMPONENTS.map((component) => ({ component, stages: BOTH })),
  { repository: '*/multicluster-engine/assisted-installer-reporter*', stages: BOTH },
  { repository: '*/multicluster-engine/assisted-installer*', stages: ['discovery'] },
  { component: '*', repository: '*', stages: ['installed'] },
];

const rowsSchema = v.array(
  v.pipe(
    v.strictObject({
      component: v.optional(v.string()),
      repository: v.optional(v.string()),
      stages: v.pipe(v.array(v.picklist(STAGES)), v.minLength(1)),
    }),
    v.check((row) => row.component !== undefined || row.repository !== undefined, 'needs a component or a repository'),
  ),
);

/**
 * Reads a user's rows, a YAML or JSON list of `{component, repository, stages}`.
 * @throws PrestageError ERR_CLASSIFICATION
 */
export function parseClassification(text: string, where: string): readonly ClassificationRow[] {
  const parsed = v.safeParse(rowsSchema, yamlOf(text, where));
  if (parsed.success) return parsed.output;
  const faults = schemaFaults(parsed.issues);
  throw new PrestageError(
    'ERR_CLASSIFICATION',
    `${where} is not a classification: ${faults.join('; ')}`,
    'Write it as a list of {component, repository, stages}',
  );
}

/** The stages that need an image. Pure. */
export function stagesOf(image: NamedImage, rows: readonly ClassificationRow[] = CLASSIFICATION): readonly Stage[] {
  const repository = image.reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  const row = rows.find((candidate) => fits(candidate.component, image.component ?? '') && fits(candidate.repository, repository));
  return row?.stages ?? [];
}

/** Whether a text matches a pattern in which `*` stands for any text; an undefined pattern matches every text. */
export function fits(pattern: string | undefined, text: string): boolean {
  if (pattern === undefined) return true;
  const parts = pattern.split('*');
  const [first = '', last = ''] = [parts[0], parts.at(-1)];
  if (parts.length === 1) return text === pattern;
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  let from = first.length;
  const limit = text.length - last.length;
  for (const part of parts.slice(1, -1)) {
    const at = text.indexOf(part, from);
    if (at < 0 || at + part.length > limit) return false;
    from = at + part.length;
  }
  return true;
}

function yamlOf(text: string, where: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new PrestageError('ERR_CLASSIFICATION', `${where} is not YAML: ${messageOf(cause)}`, 'Correct the file', { cause });
  }
}
