const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** A number of bytes for people, in binary units with one decimal: `512 B`, `12.3 GiB`. A number that is negative or not finite is `unknown`. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return 'unknown';
  let value = Math.round(bytes);
  if (value < 1024) return `${value} B`;
  for (const unit of UNITS.slice(1)) {
    value /= 1024;
    // Compare the rounded value, so that no text says 1024.0 KiB.
    if (Number(value.toFixed(1)) < 1024) return `${value.toFixed(1)} ${unit}`;
  }
  return `${value.toFixed(1)} ${UNITS.at(-1)}`;
}

const FACTORS: Readonly<Record<string, number>> = {
  B: 1,
  ...Object.fromEntries(Array.from('KMGTP').flatMap((letter, index) => [letter, `${letter}iB`].map((unit) => [unit, 1024 ** (index + 1)]))),
  ...Object.fromEntries(Array.from('KMGTP').map((letter, index) => [`${letter}B`, 1000 ** (index + 1)])),
};

/**
 * A size as people write it, in bytes: `100GiB`, `1.5 TiB`; `100G` is binary, too, as for sgdisk; `100GB` is decimal. Undefined if the text
 * is not a size, has no unit, or is not a whole number of bytes.
 */
export function parseBytes(text: string): number | undefined {
  const [, number, unit = ''] = /^([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([A-Za-z]{1,3})$/.exec(text.trim()) ?? [];
  const factor = FACTORS[unit];
  if (number === undefined || factor === undefined) return undefined;
  const bytes = Number(number) * factor;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** A number of things for people: `1 image`, `2 images`. */
export function numberOf(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** Bytes per second for people: `98.4 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  const text = formatBytes(bytesPerSecond);
  return text === 'unknown' ? text : `${text}/s`;
}

/**
 * A duration in milliseconds, for people: `0.4 s`, `12 s`, `3 min 04 s`, `2 h 05 min`. Below ten seconds with one decimal.
 * A number that is negative or not finite is `unknown`.
 */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return 'unknown';
  const tenths = Math.round(milliseconds / 100);
  if (tenths < 100) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${twoDigits(seconds % 60)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}

const AGES = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
  [1, 'second'],
] as const;

/** An age in milliseconds, for people: `11 minutes ago`; `just now` below a second. */
export function formatAge(milliseconds: number): string {
  for (const [seconds, unit] of AGES) {
    const count = Math.floor(milliseconds / 1000 / seconds);
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'} ago`;
  }
  return 'just now';
}

/** A time in ISO 8601, as the agent writes it. */
const TIME = /\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?Z/g;

/** The text with its age behind each time. A time that is still to come, by a clock that was wrong, has none. */
export function withAges(text: string, now: Date): string {
  return text.replace(TIME, (time) => {
    const ageMs = now.getTime() - Date.parse(time);
    return ageMs >= 0 ? `${time} (${formatAge(ageMs)})` : time;
  });
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
