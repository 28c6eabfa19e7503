import { readRegistriesInForce } from '../engine/registries-view.ts';
import { readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { formatReference, nameOf, type Reference, readReference } from '../model/reference.ts';
import { repositoryOf } from '../signatures/policy.ts';
import { readLastState } from '../state/run-record.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import { locateStorage } from '../storage/location.ts';
import { inspectStorage, readImages } from '../storage/records.ts';
import { answerImage, type ImageReport } from './image-answer.ts';
import type { PlaceAnswer, PlaceFacts } from './image-facts.ts';
import { type PullPlace, pulledReference, pullPlaces } from './image-places.ts';
import { judgePolicies } from './image-policies.ts';
import { askForImage, type ShownByRegistry, splitPlace } from './image-shown.ts';
import { type Look, look, type Unseen } from './look.ts';
import { ourMirrors, ownRegistryHealth, targetOf } from './registries-now.ts';
import { isDead, storeNow } from './store-now.ts';

/**
 * Tells what the engines of this node would do with an image: where a pull gets it, under which policy and with which signature, or why it fails.
 * Writes nothing. Asks only registries that our own mirror entries name: others may need a login, or a network.
 * @throws PrestageError ERR_USAGE if the text is not a reference
 */
export async function collectImageStatus(host: Host, text: string): Promise<ImageReport> {
  const parsed = readReference(text);
  if (typeof parsed === 'string') {
    throw new PrestageError('ERR_USAGE', parsed, 'Write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>');
  }
  const reference = pulledReference(parsed);
  const fullName = formatReference(reference);
  const [asked, stored] = await Promise.all([
    look(async () => await askPlaces(host, reference)),
    look(async () => await isStored(host, reference)),
  ]);
  const places: Look<readonly PlaceFacts[]> = asked.kind === 'seen' ? { kind: 'seen', value: asked.value.places } : asked;
  const policies = await judgePolicies(host, fullName, asked.kind === 'seen' ? asked.value.shown : asked);
  return answerImage({ fullName, places, policies, stored });
}

interface Asked {
  readonly places: readonly PlaceFacts[];
  readonly shown: ShownByRegistry | Unseen;
}

/** Engines take the first place that has the manifest, so no place is asked after it, nor after one that could not be checked. */
async function askPlaces(host: Host, reference: Reference): Promise<Asked> {
  const view = await readRegistriesInForce(host);
  if (view.shadowedBy !== undefined) throw shadowedError(view.shadowedBy);
  const bootId = await readBootId();
  const found = await readLastState(host, bootId);
  const state = found === 'damaged' ? undefined : found;
  // The root is the disk of another machine: the registries of this machine do not belong to it.
  const isElsewhere = host.root !== '/' && (state?.bootId !== bootId || (state.root ?? '/') !== host.root);
  const ours = { addresses: isElsewhere ? [] : await ourMirrors(host), own: state?.registry?.address };
  const places: PlaceFacts[] = [];
  for (const place of pullPlaces(view.entries, reference)) {
    const { answer, shown, isLast } = await askPlace(host, place, ours);
    places.push({ name: place.name, kind: place.kind, answer });
    if (answer.kind === 'unseen') return { places, shown: answer };
    if (shown !== undefined) return { places, shown };
    if (isLast) break;
  }
  return { places, shown: { kind: 'unseen', reason: 'no source or mirror has the image', remedy: 'Configure a source that has it' } };
}

async function askPlace(
  host: Host,
  { name, blockedBy }: PullPlace,
  ours: { readonly addresses: readonly string[]; readonly own: string | undefined },
): Promise<{ readonly answer: PlaceAnswer; readonly shown?: ShownByRegistry; readonly isLast?: true }> {
  if (blockedBy !== undefined) return { answer: { kind: 'not', reason: `blocked by ${blockedBy}` } };
  const { address } = splitPlace(name);
  if (!ours.addresses.includes(address)) return { answer: foreign(name) };
  const health = await ownRegistryHealth(host, address, ours.own);
  if (health.kind === 'unseen') return { answer: { ...health, reason: `${name}: ${health.reason}` } };
  if (!health.value.healthy) return { answer: { kind: 'not', reason: `its registry does not answer: ${health.value.reason}` } };
  const shown = await look(async () => await askForImage(host, await targetOf(host, address), name));
  if (shown.kind === 'unseen') return { answer: shown };
  if (shown.value === undefined) return { answer: { kind: 'not', reason: 'it does not have the image' } };
  if ('lacks' in shown.value) return { answer: { kind: 'not', reason: shown.value.lacks }, isLast: true };
  return { answer: { kind: 'has', digest: shown.value.digest }, shown: shown.value };
}

function foreign(name: string): Unseen {
  return {
    kind: 'unseen',
    reason: `${name} was not checked: it is not a registry that the agent set up for this node`,
    remedy: 'Test it with a pull: podman pull',
  };
}

function shadowedError(file: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRIES',
    `${file} makes podman ignore /etc/containers for root, so the sources of a pull were not checked`,
    'Move the file away, then repeat the command',
  );
}

async function isStored(host: Host, reference: Reference): Promise<boolean> {
  const stores = isDead(await storeNow(host)) ? [] : await additionalStores(host);
  const [{ images }, ...beside] = await Promise.all([
    inspectStorage(await locateStorage(host, {}), stores),
    ...stores.map(async (graphroot) => ({ images: await readImages({ graphroot, runroot: graphroot }) })),
  ]);
  const fullName = formatReference(reference);
  const { digest } = reference;
  return [images, ...beside.map((one) => one.images)]
    .flat()
    .some(
      ({ names, digests, damage }) =>
        damage.length === 0 &&
        (names.includes(fullName) ||
          (digest !== undefined && digests.includes(digest) && names.some((name) => repositoryOf(name) === nameOf(reference)))),
    );
}
