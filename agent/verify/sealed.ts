import type { SealedBundle } from '../bundle/read-bundle.ts';
import { type BundleFault, unlistedFiles, verifyFiles } from '../bundle/verify-files.ts';
import { absentText } from '../model/absent-instances.ts';
import type { Bundle, BundleFile, BundleImage, BundlePayload, StorePieces } from '../model/bundle.ts';
import { STAGES } from '../model/stage.ts';
import { type ArchivesSurvey, surveyFolder, verifyArchive, verifyArchives } from './archives.ts';
import { type Checked, faultOf, joinChecked, type VerifyContext } from './context.ts';
import { misnamedBlobs, verifyLayout } from './layout.ts';
import { misplacedBlobs, verifyRegistry, verifyRegistryImage } from './registry.ts';
import { verifyStore } from './store.ts';

/** The folder in which `build` keeps its record beside the bundle; it never gets to a disk. */
const BUILD_RECORD = '.build/';
/** Most unlisted files that are named; of the rest only the number is given. */
const NAMED_STRANGERS = 20;

/** Number of bytes that a full verification of a bundle reads. */
export function sealedBytes(bundle: Bundle): number {
  return bundle.files.reduce((total, file) => total + file.sizeBytes, 0);
}

/**
 * Verifies a sealed bundle: its files against the manifest, and each payload against the images that it must have. In mode `full`, archives are read
 * right after they are hashed, and store images are read while other files are hashed.
 */
export async function verifySealed({ directory, bundle }: SealedBundle, context: VerifyContext): Promise<Checked> {
  const surveys = await Promise.all(
    bundle.payloads.filter((payload) => payload.kind === 'archives').map(async (payload) => await survey(directory, payload.path, bundle)),
  );
  const archives = new Map(surveys.flatMap((one) => one.archives).map((archive) => [archive.path, archive]));
  const part = { directory, path: '' };
  const inspect = async (file: BundleFile): Promise<readonly BundleFault[]> => {
    const archive = archives.get(file.path);
    return archive === undefined ? [] : await verifyArchive(part, archive, { ...context, onRead: () => undefined });
  };
  const hashing = verifyFiles(directory, bundle.files, { ...context, onProgress: context.onRead, inspect, pieces: piecesOf(bundle) });
  const broken = hashing.then(
    (faults) => new Set(faults.map((fault) => fault.path)),
    () => new Set<string>(),
  );
  const [files, ...payloads] = await Promise.all([
    hashing,
    ...bundle.payloads.map(async (payload) => await verifyPayload({ directory, payload, bundle, broken }, context)),
  ]);
  const quick = context.mode === 'quick' ? await verifyArchives(part, [...archives.values()], context) : [];
  return joinChecked([
    { faults: files, notices: [] },
    ...surveys,
    { faults: quick, notices: [] },
    ...payloads,
    { faults: [], notices: [...absentNotices(bundle), ...(await strangers(directory, bundle))] },
  ]);
}

/** The recorded pieces of the store images, by path. */
function piecesOf({ payloads }: Bundle): ReadonlyMap<string, StorePieces> {
  return new Map(
    payloads.flatMap((payload) =>
      payload.kind === 'store' && payload.pieces !== undefined ? [[payload.image, payload.pieces] as const] : [],
    ),
  );
}

interface PayloadWork {
  readonly directory: string;
  readonly payload: BundlePayload;
  readonly bundle: Bundle;
  /** Paths of files with faults; settles when all files have been checked. */
  readonly broken: Promise<ReadonlySet<string>>;
}

async function verifyPayload({ directory, payload, bundle, broken }: PayloadWork, context: VerifyContext): Promise<Checked> {
  const all = imagesOf(bundle);
  // An image can be in two repositories, with different attachments in each.
  const attached = STAGES.flatMap((stage) => bundle.stages[stage]?.images ?? []);
  switch (payload.kind) {
    case 'archives':
      // Checked together with the files.
      return { faults: [], notices: [] };
    case 'oci':
      return joinChecked([
        { faults: misnamedBlobs(bundle.files, payload.path), notices: [] },
        await verifyLayout({ directory, path: payload.path, attached }, all, context),
      ]);
    case 'registry':
      return joinChecked([
        { faults: misplacedBlobs(bundle.files, payload.path), notices: [] },
        await verifyRegistry({ directory, path: payload.path, attached }, all, 'all', context),
        ...(payload.registryImage === undefined
          ? []
          : [await verifyRegistryImage({ directory, path: payload.path }, payload.registryImage, context)]),
      ]);
    case 'store':
      return joinChecked([
        { faults: misplacedBlobs(bundle.files, payload.mirror), notices: [] },
        ...(payload.osTree === undefined ? [] : [{ faults: misplacedBlobs(bundle.files, payload.osTree), notices: [] }]),
        await verifyStore(
          { directory, payload, images: bundle.stages[payload.stage]?.images ?? [], release: bundle.release, broken },
          context,
        ),
      ]);
  }
}

async function survey(directory: string, path: string, bundle: Bundle): Promise<ArchivesSurvey> {
  try {
    return await surveyFolder({ directory, path }, bundle.stages);
  } catch (error) {
    return { faults: [faultOf(path, error)], notices: [], archives: [], images: {} };
  }
}

/** The images of all stages. Each manifest appears once, with all its names. */
function imagesOf(bundle: Bundle): readonly BundleImage[] {
  const all = STAGES.flatMap((stage) => bundle.stages[stage]?.images ?? []);
  const byDigest = Map.groupBy(all, (image) => image.manifestDigest);
  return [...byDigest.values()].flatMap((group) => {
    const [first] = group;
    return first === undefined ? [] : [{ ...first, names: [...new Set(group.flatMap((image) => image.names))] }];
  });
}

/** Not faults: a node needs only its own platform, which the build had. */
function absentNotices(bundle: Bundle): readonly string[] {
  const text = absentText(imagesOf(bundle), 'the input of the build lacked');
  return text === undefined ? [] : [text];
}

async function strangers(directory: string, bundle: Bundle): Promise<readonly string[]> {
  const found = (await unlistedFiles(directory, bundle.files)).filter((path) => path !== BUILD_RECORD);
  const named = found.slice(0, NAMED_STRANGERS).map((path) => `${path} does not belong to the bundle`);
  return found.length > NAMED_STRANGERS ? [...named, `${found.length - NAMED_STRANGERS} more files do not belong to the bundle`] : named;
}
