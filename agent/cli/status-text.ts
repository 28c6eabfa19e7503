import { formatBytes, formatDuration, withAges } from '../model/bytes.ts';
import { causesOf, type Fault, fromRegistry } from '../model/causes.ts';
import { shortDigests } from '../model/digest.ts';
import { type ImageState, isUsable } from '../model/run-state.ts';
import type { StatusReport } from '../status/assess.ts';
import type { Paint, Style } from './output.ts';
import type { Screen } from './screen.ts';
import { fitText, type Part, plainText, wholeText } from './status-fit.ts';

/** How a status is shown. */
export interface StatusView {
  readonly now: Date;
  /** Every image in the order of the list, and no line is left out. */
  readonly all: boolean;
  /** The console that the text must fit; left out if there is none. */
  readonly screen?: Screen;
}

const STYLE_OF: Readonly<Record<StatusReport['status']['readiness'], Style>> = {
  ready: 'good',
  running: 'bold',
  unknown: 'warn',
  degraded: 'warn',
  partial: 'warn',
  interrupted: 'warn',
  failed: 'bad',
  'never-run': 'warn',
  released: 'warn',
};

/**
 * The status for people: what matters first, then the images that are not usable, by cause. On a console it is never longer than the console.
 * Pure.
 */
export function statusText(report: StatusReport, view: StatusView, paint: Paint): string {
  const { status } = report;
  const head: readonly Part[] = [
    { text: withAges(`${status.readiness}: ${status.reason}`, view.now), mark: [STYLE_OF[status.readiness], status.readiness], most: 6 },
    { text: `next:      ${status.nextStep}` },
    ...totals(report, view.now),
  ];
  const details = detailsOf(report, view.now);
  const { screen } = view;
  if (view.all) return wholeText([...head, ...details, ...status.images.flatMap(imageParts)], screen, paint);
  const causes = causesOf(faultsOf(status));
  const nameOf = namer(status.images, screen);
  if (screen === undefined) return plainText({ head, details, causes, nameOf }, paint);
  return fitText({ head, details, causes, nameOf }, screen, paint);
}

/** The name of an image as people read it: with its component in the release; on a console this is instead of the long repository. */
function namer(images: readonly ImageState[], screen: Screen | undefined): (reference: string) => string {
  const components = new Map(images.map(({ reference, components: of = [] }) => [reference, of.join(', ')]));
  return (reference) => {
    const component = components.get(reference) ?? '';
    if (screen === undefined) return component === '' ? reference : `${reference} (${component})`;
    const digest = reference.slice(reference.indexOf('@') + 1);
    return shortDigests(component === '' ? reference : `${component} (${digest})`);
  };
}

/** The order in which causes are shown. */
const ORDER: readonly ImageState['state'][] = ['failed', 'missing', 'loading', 'skipped', 'pending'];

/** What the verdict and the next step say is not said again. */
function faultsOf({ images, run, nextStep }: StatusReport['status']): readonly Fault[] {
  const ofRun = (image: ImageState): boolean => image.error !== undefined && image.error.message === run?.error?.message;
  return images
    .filter((image) => !isUsable(image))
    .toSorted((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state))
    .map((image): Fault => {
      const { reference, state, reason = '', error } = image;
      const common = { state, subject: reference, place: fromRegistry(reference) };
      if (error === undefined) return { ...common, message: reason };
      if (ofRun(image)) return { ...common, message: 'the run ended first' };
      return { ...common, message: reason, code: error.code, ...(error.remedy !== nextStep && { remedy: error.remedy }) };
    });
}

type RunOfStatus = NonNullable<StatusReport['status']['run']>;

/** How many images there are in which state, how far the run is, and how images reach the engines. */
function totals({ status }: StatusReport, now: Date): readonly Part[] {
  const { run } = status;
  if (run === undefined) return [];
  const counts = Object.entries(status.counts).flatMap(([name, count]) => (count === 0 ? [] : [`${count} ${name}`]));
  const left = status.readiness === 'running' ? timeLeft(run, now) : '';
  return [
    { text: `images:    ${counts.join(', ') || 'none known'}`, most: 2 },
    ...(run.bytes.total === 0
      ? []
      : [{ text: `archives:  ${formatBytes(run.bytes.done)} of ${formatBytes(run.bytes.total)} read${left}` }]),
    ...(run.delivery === undefined ? [] : [{ text: `delivery:  ${run.delivery.kind} (${run.delivery.reason})`, most: 3 }]),
  ];
}

/** By the rate since the run began to load images. */
function timeLeft({ bytes, startedAt, timeline }: RunOfStatus, now: Date): string {
  const loading = timeline?.phases.find(({ name }) => name === 'loading');
  const elapsedMs = now.getTime() - Date.parse(startedAt) - (loading?.startMs ?? 0);
  if (bytes.done === 0 || !(elapsedMs > 0)) return '';
  return `, about ${formatDuration((elapsedMs * (bytes.total - bytes.done)) / bytes.done)} left`;
}

/** All other lines, the most important first. */
function detailsOf({ status }: StatusReport, now: Date): readonly Part[] {
  const { run } = status;
  if (run === undefined) return [];
  const took = run.durationMs === undefined ? '' : `, took ${formatDuration(run.durationMs)}`;
  return [
    { text: withAges(`last run:  ${run.startedAt}${took}, agent ${run.agentVersion}`, now), most: 2 },
    ...errorParts(status),
    ...(status.unseen ?? []).map(({ what, reason }) => ({ text: `not seen:  ${what}: ${reason}`, most: 2 })),
    { text: `stage:     ${run.stage} (policy ${run.policy})`, most: 1 },
    { text: `source:    ${sourceText(run)}`, most: 2 },
    ...(run.payload === undefined
      ? []
      : [{ text: `payload:   ${run.payload}${run.architecture === undefined ? '' : ` for ${run.architecture}`}`, most: 1 }]),
    ...(run.registry === undefined
      ? []
      : [{ text: `registry:  ${run.registry.address} (${run.registry.how}), serves ${run.registry.tree}`, most: 2 }]),
    ...(run.store === undefined ? [] : storeParts(run.store)),
    ...(run.osImage === undefined
      ? []
      : [{ text: `system:    ${[run.osImage.state, run.osImage.reason, ...run.osImage.references].join(', ')}`, most: 3 }]),
    ...(run.storage === undefined
      ? []
      : [{ text: `storage:   ${run.storage.graphroot}${status.storageChecked ? '' : ' (as recorded by the run)'}`, most: 2 }]),
    ...run.notices.map((notice) => ({ text: `notice:    ${notice}`, most: 2 })),
  ];
}

/** The last error. Its message is left out if the verdict or an image has it. */
function errorParts({ lastError, reason, images }: StatusReport['status']): readonly Part[] {
  if (lastError === undefined) return [];
  const isTold = reason.includes(lastError.message) || images.some(({ error }) => error?.message === lastError.message);
  return [{ text: `last error: ${lastError.code}${isTold ? '' : `: ${lastError.message}`}`, most: 3 }];
}

const VERIFIED: Readonly<Record<NonNullable<RunOfStatus['store']>['verified'], string>> = {
  kernel: 'the kernel checks what it reads',
  'before-mount': 'hashed before it was mounted',
  pending: 'not hashed yet',
  yes: 'hashed after it was mounted',
};

function storeParts(store: NonNullable<RunOfStatus['store']>): readonly Part[] {
  return [
    { text: `store:     ${store.image} on ${store.path}, from ${store.placement}`, most: 2 },
    { text: `trust:     ${store.trust}: ${store.trustReason}; ${VERIFIED[store.verified]}`, most: 2 },
  ];
}

function sourceText({ source }: RunOfStatus): string {
  if (source === undefined) return 'none: the run ended before it chose one';
  if (source.kind === 'directory') return `directory ${source.path}`;
  if (source.kind === 'disk') return `copy on the disk, ${source.path}: there is no partition "${source.label}"`;
  return `partition "${source.label}"${source.device === undefined ? ', not opened' : ` on ${source.device} (${source.fileSystem})`}`;
}

/** An image in the list of all. */
function imageParts(image: ImageState): readonly Part[] {
  const { state, reference, components = [], reason, error } = image;
  const style: Style = isUsable(image) ? 'good' : state === 'failed' || state === 'missing' ? 'bad' : 'warn';
  const component = components.length === 0 ? '' : ` (${components.join(', ')})`;
  const line: Part = { text: `  ${state.padEnd(8)} ${reference}${component}`, mark: [style, state] };
  if (isUsable(image) || reason === undefined) return [line];
  return [line, { text: `           ${reason}` }, ...(error === undefined ? [] : [{ text: `           next: ${error.remedy}` }])];
}
