import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Catalog, parseCatalog } from '../factory/images/catalog.ts';
import { CLASSIFICATION, type NamedImage, parseClassification, RELEASE_COMPONENT } from '../factory/images/classification.ts';
import { readFolderFiles, readImageFiles } from '../factory/images/image-files.ts';
import { mergeLists } from '../factory/images/merge.ts';
import { operatorImages, parseWantedPackage } from '../factory/images/operators.ts';
import { listPackages, packagesText } from '../factory/images/packages.ts';
import { brokenComponents, IMAGE_REFERENCES, parseImageReferences } from '../factory/images/release.ts';
import { type Selected, selectImages } from '../factory/images/select.ts';
import { PrestageError } from '../model/errors.ts';
import { quoteInput } from '../model/faults.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { reasonOf } from '../model/system-error.ts';
import type { CommandSpec, Flag } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import { credsFlag, type LoginFile, loginFile } from './creds.ts';
import type { Answer } from './output.ts';
import { quietFlag } from './setting-flags.ts';

type Options = Readonly<Record<string, unknown>>;

const selectionFlags: readonly Flag[] = [
  { usage: '--stage <stage>', help: 'only images for this stage: discovery or installed' },
  { usage: '--include <pattern...>', help: 'only these images, by component name or reference; * matches any text' },
  { usage: '--exclude <pattern...>', help: 'all but these images' },
  {
    usage: '--classification <file>',
    help: 'rows of {component, repository, stages} that take precedence over the built-in ones (YAML or JSON)',
  },
];
const registryFlags: readonly Flag[] = [
  { usage: '--authfile <file>', help: 'credentials for the registry' },
  credsFlag,
  { usage: '--cert-dir <dir>', help: 'certificates for the registry (*.crt)' },
  { usage: '--tls-verify', help: 'check the certificate (default); --tls-verify=false is --no-tls-verify' },
  { usage: '--no-tls-verify', help: 'accept any certificate, or plain HTTP' },
  quietFlag,
];

/** `prestage-agent images`: prints image lists, one reference a line, or as JSON with component names. */
export const imagesCommand: CommandSpec = {
  name: 'images',
  summary: 'List the images that a release or operators need',
  description: 'Print lists of the images that a release or operators need.',
  flags: [],
  commands: [
    {
      name: 'release',
      summary: 'List the components of a release',
      description: 'Print the components of a release, read from its image without running it.',
      arguments: [{ usage: '<image>', help: 'pull-spec, oci:DIR[:NAME], dir:DIR, containers-storage:NAME, or the path of a layout' }],
      flags: [...selectionFlags, ...registryFlags],
      forms: ['text', 'json'],
      examples: ['prestage-agent images release quay.io/openshift-release-dev/ocp-release:4.14.0-x86_64 --stage discovery > ai-images.txt'],
      answer: answerRelease,
    },
    {
      name: 'operators',
      summary: 'List the bundle and related images of operators',
      description:
        'Print the bundle and related images of operators, read from a file-based catalog. Without --package, list its packages, each with its default channel and the version at its head.',
      arguments: [{ usage: '<catalog>', help: 'catalog image (as for release), or a folder of JSON and YAML files' }],
      flags: [
        { usage: '--package <name...>', help: 'NAME, NAME:CHANNEL or NAME:CHANNEL@VERSION; can be repeated (default: list the packages)' },
        ...selectionFlags,
        ...registryFlags,
      ],
      forms: ['text', 'json'],
      examples: [
        'prestage-agent images operators ./catalog',
        'prestage-agent images operators ./catalog --package local-storage-operator:stable',
      ],
      answer: answerOperators,
    },
    {
      name: 'merge',
      summary: 'Merge image lists',
      description: 'Merge image lists. Keeps the order, drops duplicates, reports conflicts.',
      arguments: [{ usage: '<list...>', help: 'list files' }],
      flags: [],
      forms: ['text', 'json'],
      examples: ['prestage-agent images merge ocp-images.txt operators.txt > all.txt'],
      answer: answerMerge,
    },
  ],
};

async function answerRelease(terminal: Terminal, options: Options, args: readonly string[]): Promise<Answer> {
  const [source = ''] = args;
  const host = hostFor(terminal, {});
  await using login = await loginOf(terminal, options, source);
  const files = await readImageFiles(host, {
    source,
    wants: (path) => path === IMAGE_REFERENCES,
    skopeoFlags: skopeoFlags(options, login),
  });
  const [file] = files;
  if (file === undefined)
    throw new PrestageError(
      'ERR_RELEASE',
      `${source} has no ${IMAGE_REFERENCES}`,
      'Name a release image, such as quay.io/openshift-release-dev/ocp-release:VERSION-x86_64',
    );
  const where = `${source}:${IMAGE_REFERENCES}`;
  const release = parseImageReferences(file.text, where);
  const isLocal = /^(oci|dir|containers-storage):/.test(source) || existsSync(source);
  const self: readonly NamedImage[] = isLocal ? [] : [{ reference: source.replace(/^docker:\/\//, ''), component: RELEASE_COMPONENT }];
  if (isLocal) host.log('notice', 'the release image itself is not listed: a local copy does not tell its pull-spec');
  // Selected like the others, so that a broken one is an error only if it is wanted.
  const broken = new Map(release.broken.map((one) => [one.place, one]));
  const all = [...self, ...release.images, ...release.broken.map(({ place, component }) => ({ reference: place, component }))];
  const answer = await listAnswer(terminal, options, all, { kind: 'ReleaseImages', release: release.version });
  const wanted = answer.data.images.flatMap(({ reference }) => broken.get(reference) ?? []);
  if (wanted.length > 0) throw brokenComponents(where, wanted);
  return answer;
}

async function answerOperators(terminal: Terminal, options: Options, args: readonly string[]): Promise<Answer> {
  const [source = ''] = args;
  const wanted = textsOf(options.package).map(parseWantedPackage);
  const wants = (path: string): boolean => /\.(json|ya?ml)$/.test(path);
  const isFolder = existsSync(source) && !existsSync(`${source}/oci-layout`) && !existsSync(`${source}/manifest.json`);
  await using login = await loginOf(terminal, options, source);
  const files = isFolder
    ? await readFolderFiles(source, wants)
    : await readImageFiles(hostFor(terminal, {}), {
        source,
        wants: (path) => path.startsWith('configs/') && wants(path),
        skopeoFlags: skopeoFlags(options, login),
      });
  if (files.length === 0)
    throw new PrestageError(
      'ERR_CATALOG',
      `${source} has no JSON or YAML files of a catalog`,
      'Name a file-based catalog: an image with /configs, or a folder',
    );
  if (wanted.length === 0) return packagesAnswer(terminal, parseCatalog(files, ['']));
  const names = wanted.map((one) => one.name);
  const some = parseCatalog(files, names);
  const isKnown = names.every((name) => some.packages.some((one) => one.name === name));
  // Only the error message needs the names of all packages.
  const catalog = isKnown ? some : parseCatalog(files, ['']);
  const operators = wanted.map((one) => operatorImages(catalog, one));
  for (const notice of new Set(operators.flatMap((operator) => operator.notices))) hostFor(terminal, {}).log('notice', notice);
  return await listAnswer(
    terminal,
    options,
    operators.flatMap((operator) => operator.images),
    { kind: 'OperatorImages', operators: operators.map(({ package: name, channel, bundle }) => ({ package: name, channel, bundle })) },
  );
}

function packagesAnswer(terminal: Terminal, catalog: Catalog): Answer {
  const packages = listPackages(catalog);
  const { log } = hostFor(terminal, {});
  for (const { message } of catalog.faults) log('warning', `${message}; the document is skipped`);
  log('notice', 'these are packages, not images: choose some with --package NAME, NAME:CHANNEL or NAME:CHANNEL@VERSION');
  return { data: { apiVersion: 'prestage-agent/v1', kind: 'OperatorPackages', packages }, text: packagesText(packages), exitCode: 0 };
}

async function answerMerge(terminal: Terminal, _options: Options, args: readonly string[]): Promise<Answer> {
  const host = hostFor(terminal, {});
  const merged = mergeLists(await Promise.all(args.map(async (where) => ({ where, text: await readList(where) }))));
  for (const notice of merged.notices) host.log('notice', notice);
  for (const conflict of merged.conflicts) host.log('warning', conflict);
  const text = merged.references.map((reference) => `${reference}\n`).join('');
  return { data: { apiVersion: 'prestage-agent/v1', kind: 'MergedImages', ...merged }, text, exitCode: 0 };
}

async function listAnswer(
  terminal: Terminal,
  options: Options,
  all: readonly NamedImage[],
  head: Readonly<Record<string, unknown>>,
): Promise<Answer & { readonly data: { readonly images: readonly NamedImage[] } }> {
  const host = hostFor(terminal, {});
  const unique = [...new Map(all.map((image) => [image.reference, image])).values()];
  const selected: Selected = selectImages(unique, {
    stage: stageOf(options.stage),
    include: textsOf(options.include),
    exclude: textsOf(options.exclude),
    rows: await rowsOf(options.classification),
  });
  for (const pattern of selected.unused) host.log('warning', `the pattern "${pattern}" matches no image`);
  const data = { apiVersion: 'prestage-agent/v1', ...head, images: selected.images, ignored: selected.ignored };
  return { data, text: selected.images.map((image) => `${image.reference}\n`).join(''), exitCode: 0 };
}

async function rowsOf(file: unknown) {
  if (typeof file !== 'string') return CLASSIFICATION;
  return [...parseClassification(await readList(file), file), ...CLASSIFICATION];
}

async function readList(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_USAGE', `${path} cannot be read: ${reasonOf(cause)}`, 'Give the path of a readable file', {
      cause,
    });
  });
}

function stageOf(value: unknown): Stage | undefined {
  if (value === undefined) return undefined;
  const stage = STAGES.find((candidate) => candidate === value);
  if (stage === undefined)
    throw new PrestageError(
      'ERR_USAGE',
      `--stage must be one of ${STAGES.join(', ')}, got ${quoteInput(typeof value === 'string' ? value : JSON.stringify(value))}`,
      'Correct --stage',
    );
  return stage;
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** @throws PrestageError ERR_USAGE */
async function loginOf(terminal: Terminal, { creds, authfile }: Options, source: string): Promise<LoginFile | undefined> {
  if (typeof creds !== 'string') return undefined;
  if (authfile !== undefined) throw new PrestageError('ERR_USAGE', '--authfile and --creds exclude each other', 'Give one of the two');
  return await loginFile(terminal, creds, [source]);
}

function skopeoFlags(options: Options, login: LoginFile | undefined): readonly string[] {
  const authfile = login?.file ?? options.authfile;
  return [
    ...(typeof authfile === 'string' ? ['--authfile', authfile] : []),
    ...(typeof options.certDir === 'string' ? ['--src-cert-dir', options.certDir] : []),
    ...(options.tlsVerify === false ? ['--src-tls-verify=false'] : []),
  ];
}
