/**
 * The marks that show the agent its own lines in a registries.conf that it rewrote. A line of somebody else that would contradict ours is turned into
 * a comment, not removed.
 */
const BEGIN = '# >>> prestage-agent: written by run --rewrite; removed by: prestage-agent release';
const END = '# <<< prestage-agent';
const PUT_ASIDE = '# prestage-agent put aside: ';

const OURS = /^# >>> prestage-agent.*\n(?:(?!# <<< prestage-agent).*\n)*# <<< prestage-agent.*(?:\n|$)/gm;
const ASIDE = /^# prestage-agent put aside: /gm;

/** Lines of ours between marks. */
export function markedLines(lines: readonly string[]): readonly string[] {
  return [BEGIN, ...lines, END];
}

/** A line of somebody else that is no longer in force. */
export function putAside(line: string): string {
  return `${PUT_ASIDE}${line}`;
}

/** The text of a registries.conf as it was before the agent rewrote it, except for a line end that its last line may have lacked. */
export function withoutRewrite(text: string): string {
  return text.replaceAll(OURS, '').replaceAll(ASIDE, '');
}
