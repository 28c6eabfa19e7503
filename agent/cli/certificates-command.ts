import * as v from 'valibot';
import { type CertificateReport, makeCertificates } from '../certificates/certificates.ts';
import { PrestageError } from '../model/errors.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';

/** `prestage-agent certificates`: creates a CA, and a certificate for each node that serves the cluster. */
export const certificatesCommand: CommandSpec = {
  name: 'certificates',
  summary: 'Create a CA and certificates for nodes that serve',
  description:
    'Create a CA and, for each node that serves other nodes, a key and a certificate. Valid existing files are kept. Never copy the key of the CA to a node.',
  flags: [
    { usage: '--directory <dir>', help: 'folder for the files; may hold those of an earlier call' },
    { usage: '--address <address...>', help: 'IP address or host name that other nodes use to reach a server; can be repeated' },
    { usage: '--days <n>', help: 'validity of new certificates, 1 to 36500 days (default: 3650)' },
  ],
  forms: ['text', 'json'],
  examples: ['prestage-agent certificates --directory tls --address 192.0.2.10 --address node1.example.com'],
  answer: answerCertificates,
};

const schema = v.object({
  directory: v.optional(v.pipe(v.string(), v.nonEmpty('is not given')), ''),
  address: v.optional(v.pipe(v.array(v.string()), v.minLength(1, 'is not given')), []),
  days: v.pipe(
    v.optional(v.string(), '3650'),
    v.regex(/^[1-9]\d{0,4}$/, 'is not a number from 1 to 36500'),
    v.transform(Number),
    v.maxValue(36_500, 'is not a number from 1 to 36500'),
  ),
});

async function answerCertificates(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const parsed = v.safeParse(schema, options);
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `--${v.getDotPath(issue)} ${issue.message}`);
    const message = `certificates cannot start: ${faults.join('; ')}`;
    throw new PrestageError('ERR_USAGE', message, 'Run: prestage-agent certificates --help');
  }
  const { directory, address, days } = parsed.output;
  const host = hostFor(terminal, {});
  const { notices, ...report } = await makeCertificates(host, { directory, addresses: address, days });
  for (const notice of notices) host.log('warning', notice);
  return { data: { apiVersion: 'prestage-agent/v1', kind: 'Certificates', ...report }, text: certificatesText(report), exitCode: 0 };
}

/** A line for each certificate, for people. Pure. */
function certificatesText({ authority, servers }: Omit<CertificateReport, 'notices'>): string {
  return [authority, ...servers]
    .map(({ certificate, isNew, notAfter }) => `${isNew ? 'made' : 'kept'}    ${certificate} (valid until ${notAfter.slice(0, 10)})`)
    .join('\n');
}
