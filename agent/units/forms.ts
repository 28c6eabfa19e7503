import { Document, Scalar } from 'yaml';
import { PrestageError } from '../model/errors.ts';
import type { Stage } from '../model/stage.ts';
import type { IgnitionConfig } from './config.ts';
import { ANNOTATIONS_LIMIT_BYTES, checkSize } from './size.ts';

/**
 * Output forms of an override: the file itself, the body or the curl command of the Assisted Installer's call, a fragment of a GitOps object, or the
 * arguments that keep the data partition during the installation.
 */
export const IGNITION_FORMS = ['ign', 'patch', 'curl', 'infraenv', 'siteconfig', 'clusterinstance', 'bmh', 'installer-args'] as const;
export type IgnitionForm = (typeof IGNITION_FORMS)[number];

export interface FormInput {
  readonly stage: Stage;
  readonly config: IgnitionConfig;
  /** Label of the data partition that an installation must keep; undefined if the node has none. */
  readonly label: string | undefined;
}

export interface RenderedForm {
  /** Ends with a line feed. */
  readonly text: string;
  readonly warnings: readonly string[];
}

/** Annotations that the bare metal agent controller reads. Source: assisted-service docs/hive-integration, BareMetalHost. */
const ANNOTATION_IGNITION = 'bmac.agent-install.openshift.io/ignition-config-overrides';
const ANNOTATION_ARGS = 'bmac.agent-install.openshift.io/installer-args';
/** Ends the body in the curl command. A body is one line of JSON, so it cannot equal this. */
const HEREDOC = 'END_OF_BODY';

/**
 * Renders the override in a form. Pure.
 * @throws PrestageError ERR_USAGE for a form that the stage does not support, ERR_IGNITION_SIZE for annotations that are too large
 */
export function renderForm(form: IgnitionForm, input: FormInput): RenderedForm {
  switch (form) {
    case 'ign':
      return plain(`${JSON.stringify(input.config, undefined, 2)}\n`);
    case 'patch':
      return plain(`${patchBody(input)}\n`);
    case 'curl':
      return plain(curlCommand(input));
    case 'infraenv':
      return plain(infraEnv(input));
    case 'siteconfig':
      return plain(siteConfig(input));
    case 'clusterinstance':
      return plain(clusterInstance(input));
    case 'bmh':
      return bareMetalHost(input);
    case 'installer-args':
      return plain(`${argumentsBody(input)}\n`);
  }
}

/** Arguments of coreos-installer that keep the partition with the label. Source: coreos-installer install --help. */
function installerArgs(label: string): readonly string[] {
  return ['--save-partlabel', label];
}

function keptPartition({ label }: FormInput): readonly string[] {
  if (label !== undefined) return installerArgs(label);
  throw new PrestageError(
    'ERR_USAGE',
    'the form installer-args keeps a data partition, but a node that pulls from others has none',
    'Use it with the stages discovery and installed',
  );
}

/** Source: assisted-service swagger.yaml, infra-env-update-params and host-ignition-params. */
function patchBody({ stage, config }: FormInput): string {
  const override = JSON.stringify(config);
  return JSON.stringify(stage === 'discovery' ? { ignition_config_override: override } : { config: override });
}

function curlCommand(input: FormInput): string {
  if (input.stage === 'discovery') return curlCall('', patchBody(input));
  if (input.label === undefined) return curlCall('/hosts/$HOST_ID/ignition', patchBody(input));
  return [
    curlCall('/hosts/$HOST_ID/ignition', patchBody(input), ' &&'),
    '# This call replaces the installer arguments of the host: add those that it has already.\n',
    curlCall('/hosts/$HOST_ID/installer-args', argumentsBody(input)),
  ].join('');
}

function curlCall(path: string, body: string, then = ''): string {
  return [
    `curl --fail --silent --show-error -X PATCH "$ASSISTED_URL/api/assisted-install/v2/infra-envs/$INFRA_ENV_ID${path}" \\`,
    `  -H 'Content-Type: application/json' \${TOKEN:+-H "Authorization: Bearer $TOKEN"} \\`,
    `  --data-binary @- <<'${HEREDOC}'${then}`,
    body,
    HEREDOC,
    '',
  ].join('\n');
}

function argumentsBody(input: FormInput): string {
  return JSON.stringify({ args: keptPartition(input) });
}

function infraEnv(input: FormInput): string {
  if (input.stage === 'installed') {
    throw wrongForm(
      'infraenv',
      input.stage,
      'an InfraEnv carries the override of the discovery stage',
      'siteconfig, clusterinstance or bmh',
    );
  }
  return yamlText({
    apiVersion: 'agent-install.openshift.io/v1beta1',
    kind: 'InfraEnv',
    spec: { ignitionConfigOverride: jsonBlock(input.config) },
  });
}

function siteConfig(input: FormInput): string {
  const cluster = input.stage === 'discovery' ? { ignitionConfigOverride: jsonBlock(input.config) } : { nodes: [nodeFields(input)] };
  return yamlText({ apiVersion: 'ran.openshift.io/v1', kind: 'SiteConfig', spec: { clusters: [cluster] } });
}

function clusterInstance(input: FormInput): string {
  const spec = input.stage === 'discovery' ? { ignitionConfigOverride: jsonBlock(input.config) } : { nodes: [nodeFields(input)] };
  return yamlText({ apiVersion: 'siteconfig.open-cluster-management.io/v1alpha1', kind: 'ClusterInstance', spec });
}

function bareMetalHost(input: FormInput): RenderedForm {
  if (input.stage === 'discovery') {
    throw wrongForm(
      'bmh',
      input.stage,
      'the annotations of a BareMetalHost carry the override of the installed stage',
      'infraenv, siteconfig or clusterinstance',
    );
  }
  const override = JSON.stringify(input.config);
  const args = input.label === undefined ? undefined : JSON.stringify(installerArgs(input.label));
  const texts = [ANNOTATION_IGNITION, override, ...(args === undefined ? [] : [ANNOTATION_ARGS, args])];
  const sizeBytes = Buffer.byteLength(texts.join(''));
  const warning = checkSize('the set of annotations of the BareMetalHost', sizeBytes, ANNOTATIONS_LIMIT_BYTES);
  const annotations = { [ANNOTATION_IGNITION]: literal(override), ...(args !== undefined && { [ANNOTATION_ARGS]: quoteScalar(args) }) };
  const text = yamlText({ apiVersion: 'metal3.io/v1alpha1', kind: 'BareMetalHost', metadata: { annotations } });
  return { text, warnings: warning === undefined ? [] : [warning] };
}

function nodeFields({ config, label }: FormInput) {
  return {
    ignitionConfigOverride: jsonBlock(config),
    ...(label !== undefined && { installerArgs: quoteScalar(JSON.stringify(installerArgs(label))) }),
  };
}

function wrongForm(form: IgnitionForm, stage: Stage, why: string, others: string): PrestageError {
  return new PrestageError('ERR_USAGE', `the form ${form} cannot be used for the stage ${stage}: ${why}`, `Use --as ${others}`);
}

function plain(text: string): RenderedForm {
  return { text, warnings: [] };
}

/** A string with JSON that people can read: an indented block literal. */
function jsonBlock(config: IgnitionConfig): Scalar<string> {
  return literal(JSON.stringify(config, undefined, 2));
}

function literal(text: string): Scalar<string> {
  const scalar = new Scalar(text);
  scalar.type = Scalar.BLOCK_LITERAL;
  return scalar;
}

function quoteScalar(text: string): Scalar<string> {
  const scalar = new Scalar(text);
  scalar.type = Scalar.QUOTE_SINGLE;
  return scalar;
}

/** Never folds lines, because the installer could not read a folded JSON string. */
function yamlText(content: unknown): string {
  return new Document(content).toString({ lineWidth: 0 });
}
