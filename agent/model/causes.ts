import { type ErrorCode, errorTable } from './errors.ts';
import { readReference } from './reference.ts';

/** Something that went wrong with one image or one file. */
export interface Fault {
  /** The state of the image, or another word in front of its name. */
  readonly state: string;
  /** Reference of the image, or path of the file. */
  readonly subject: string;
  /** Where it is, such as `from quay.io` or `in data/oci`: faults of one code in one place have one cause. */
  readonly place: string;
  readonly code?: ErrorCode;
  /** Empty if nothing is known. */
  readonly message: string;
  readonly remedy?: string;
}

/** Faults of the same state and code that have the same message, or the same place. Texts name such a cause once. */
export interface Cause {
  readonly state: string;
  /** Left out if the faults have one message, wherever they are. */
  readonly place?: string;
  readonly code?: ErrorCode;
  /** What all its messages say, without the names of the images. */
  readonly message: string;
  /** Of the first fault. */
  readonly remedy?: string;
  /** At least one. */
  readonly faults: readonly Fault[];
}

/** The faults by their causes, each in the order of its first fault. Pure. */
export function causesOf(faults: readonly Fault[]): readonly Cause[] {
  const repeated = new Set([...Map.groupBy(faults, byMessage)].flatMap(([key, group]) => (group.length > 1 ? [key] : [])));
  const groups = Map.groupBy(faults, (fault) => (repeated.has(byMessage(fault)) ? byMessage(fault) : byPlace(fault)));
  return [...groups.values()].flatMap((group) =>
    group.slice(0, 1).map((first): Cause => {
      const { state, place, code, remedy } = first;
      const message = commonMessage(first, group.slice(1));
      const isOneMessage = group.every((one) => one.message === first.message);
      return {
        state,
        message,
        faults: group,
        ...(!isOneMessage && { place }),
        ...(code && { code }),
        ...(remedy !== undefined && { remedy }),
      };
    }),
  );
}

function byMessage({ state, code, message }: Fault): string {
  return JSON.stringify([state, code ?? '', message]);
}

function byPlace({ state, code, message, place }: Fault): string {
  return JSON.stringify([state, code ?? message, 'at', place]);
}

/** The registry of a reference, as the place of a fault. Pure. */
export function fromRegistry(reference: string): string {
  const parsed = readReference(reference);
  return typeof parsed === 'string' ? '' : `from ${parsed.registry}`;
}

/** The clauses that all messages begin with, without the subject; the summary of the code if there are none. */
function commonMessage({ code, message, ...rest }: Fault, others: readonly Fault[]): string {
  if (others.length === 0) return message;
  const first = clausesOf({ ...rest, message });
  const theirs = others.map(clausesOf);
  const end = first.findIndex((clause, index) => clause.includes(SUBJECT) || theirs.some((clauses) => clauses[index] !== clause));
  const common = (end < 0 ? first : first.slice(0, end)).join(': ');
  if (common !== '' || code === undefined) return common;
  return lowerFirst(errorTable[code].summary);
}

/** Stands for the subject in a message. No message has a NUL. */
const SUBJECT = '\0';

function clausesOf({ subject, message }: Pick<Fault, 'subject' | 'message'>): readonly string[] {
  const own = message.startsWith(`${subject}: `) ? message.slice(subject.length + 2) : message;
  return own.replaceAll(subject, SUBJECT).split(': ');
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** How a text shows causes. */
export interface CausesForm {
  /** Most subjects of one cause that are named; with 0 there is only their number. */
  readonly most: number;
  /** How all of them can be seen. */
  readonly more: string;
}

/** Subjects of one cause that texts name if there is no reason to name more or fewer. */
export const SHOWN_SUBJECTS = 3;
export const ALL_SUBJECTS = '--all or --output json lists all';

/**
 * One cause as lines. A single fault has its whole message; several have what they share, and the first of them by name.
 * @param nameOf the subject as people read it
 */
export function causeLines(
  { state, place = '', code, message, remedy, faults }: Cause,
  form: CausesForm,
  nameOf = (subject: string) => subject,
): readonly string[] {
  const end = [...(code === undefined ? [] : [code]), ...(remedy === undefined ? [] : [`next: ${remedy}`])].join('; ');
  const ending = end === '' ? [] : [`    ${end}`];
  if (faults.length === 1)
    return [...faults.map(({ subject }) => `  ${state} ${nameOf(subject)}`), ...(message === '' ? [] : [`    ${message}`]), ...ending];
  const shown = faults.slice(0, form.most);
  const hidden = faults.length - shown.length;
  return [
    `  ${faults.length} ${state}${place === '' ? '' : ` ${place}`}${message === '' ? '' : `: ${message}`}`,
    ...shown.map(({ subject }) => `    ${nameOf(subject)}`),
    ...(hidden === 0 || form.most === 0 ? [] : [`    … and ${hidden} more: ${form.more}`]),
    ...ending,
  ];
}

/** Faults as lines at the end of an answer: by cause, or each by itself. The code stands in front of the message. */
export function faultText(faults: readonly Fault[], all: boolean): readonly string[] {
  const causes = all ? faults.flatMap((fault) => causesOf([fault])) : causesOf(faults);
  return causes.flatMap((cause) => (cause.faults.length === 1 ? cause.faults.flatMap(singleLines) : causeLines(cause, SHORT)));
}

const SHORT: CausesForm = { most: SHOWN_SUBJECTS, more: ALL_SUBJECTS };

function singleLines({ state, subject, code, message, remedy }: Fault): readonly string[] {
  const what = code === undefined ? message : `${code}: ${message}`;
  return [`  ${state} ${subject}`, ...(what === '' ? [] : [`    ${what}`]), ...(remedy === undefined ? [] : [`    next: ${remedy}`])];
}
