/** A file that an ignition config writes. */
export interface IgnitionFile {
  readonly path: string;
  readonly mode: number;
  readonly text: string;
}

interface IgnitionText {
  readonly storage?: {
    readonly files?: readonly {
      readonly path: string;
      readonly mode?: number;
      readonly contents: { readonly source: string; readonly compression?: string };
    }[];
  };
  readonly systemd?: { readonly units?: readonly { readonly name: string; readonly contents?: string }[] };
}

/** The files of a config, as Ignition's files stage writes them. Source: Ignition's configuration v3.1; RFC 2397 for data URLs. */
export function filesOf(config: string): readonly IgnitionFile[] {
  const parsed: IgnitionText = JSON.parse(config);
  return (parsed.storage?.files ?? []).map(({ path, mode, contents }) => {
    const [, encoding, data = ''] = /^data:[^,]*?(;base64)?,(.*)$/s.exec(contents.source) ?? [];
    const text = encoding === undefined ? decodeURIComponent(data) : Buffer.from(data, 'base64').toString();
    return { path, mode: mode ?? 0o644, text };
  });
}

/** The command line that systemd starts: ExecStart of the unit. Source: systemd.service(5). */
export function commandOf(config: string): readonly string[] {
  const parsed: IgnitionText = JSON.parse(config);
  const unit = parsed.systemd?.units?.[0]?.contents ?? '';
  return (/^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '').split(/\s+/);
}
