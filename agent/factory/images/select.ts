import type { Stage } from '../../model/stage.ts';
import { type ClassificationRow, fits, type NamedImage, stagesOf } from './classification.ts';

/** Which images of a set are wanted; an empty part selects all. */
export interface Selection {
  readonly stage: Stage | undefined;
  /** Component names or patterns; `*` stands for any text. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly rows: readonly ClassificationRow[];
}

export interface Selected {
  readonly images: readonly NamedImage[];
  /** Images that the patterns leave out, with the reason. */
  readonly ignored: readonly (NamedImage & { readonly reason: string })[];
  /** Patterns that match nothing, most likely typing errors. */
  readonly unused: readonly string[];
}

/** The images that a stage needs and the patterns select. A pattern is matched against component name and reference. Pure. */
export function selectImages(all: readonly NamedImage[], selection: Selection): Selected {
  const ofStage = all.filter((image) => selection.stage === undefined || stagesOf(image, selection.rows).includes(selection.stage));
  const reasonOf = (image: NamedImage): string | undefined => {
    const excluded = selection.exclude.find((pattern) => isMeant(pattern, image));
    if (excluded !== undefined) return `excluded by "${excluded}"`;
    const isIncluded = selection.include.length === 0 || selection.include.some((pattern) => isMeant(pattern, image));
    return isIncluded ? undefined : 'not included';
  };
  const judged = ofStage.map((image) => ({ image, reason: reasonOf(image) }));
  return {
    images: judged.flatMap(({ image, reason }) => (reason === undefined ? [image] : [])),
    ignored: judged.flatMap(({ image, reason }) => (reason === undefined ? [] : [{ ...image, reason }])),
    unused: [...selection.include, ...selection.exclude].filter((pattern) => !all.some((image) => isMeant(pattern, image))),
  };
}

function isMeant(pattern: string, image: NamedImage): boolean {
  return (image.component !== undefined && fits(pattern, image.component)) || fits(pattern, image.reference);
}
