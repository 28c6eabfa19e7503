import type { IgnitionFault } from '../../agent/units/validate.ts';

const hex = (length: number): string => 'ab'.repeat(length / 2);
export const withFile = (file: object, version = '3.1.0') => ({ ignition: { version }, storage: { files: [file] } });
const withSource = (source: string, version = '3.1.0') => withFile({ path: '/a', contents: { source } }, version);
export const withUnit = (unit: object) => ({ ignition: { version: '3.1.0' }, systemd: { units: [unit] } });
const error = (path: string, message: string): IgnitionFault => ({ kind: 'error', path, message });

export const FILE = '$.storage.files[0]';
export const UNIT = '$.systemd.units[0]';

/** Configs with the faults that we name in them. */
export const faulty: readonly { readonly title: string; readonly config: object; readonly faults: readonly IgnitionFault[] }[] = [
  { title: 'an empty path', config: withFile({ path: '' }), faults: [error(`${FILE}.path`, 'it is empty')] },
  { title: 'a relative path', config: withFile({ path: 'etc/a' }), faults: [error(`${FILE}.path`, '"etc/a" is not absolute')] },
  {
    title: 'a path that climbs',
    config: withFile({ path: '/a/../b' }),
    faults: [error(`${FILE}.path`, '"/a/../b" is not in its simplest form; write "/b"')],
  },
  {
    title: 'a path with a final slash',
    config: withFile({ path: '/a/' }),
    faults: [error(`${FILE}.path`, '"/a/" is not in its simplest form; write "/a"')],
  },
  {
    title: 'one path twice among files',
    config: { ignition: { version: '3.1.0' }, storage: { files: [{ path: '/a' }, { path: '/a' }] } },
    faults: [error('$.storage.files[1].path', `"/a" is already used at ${FILE}.path`)],
  },
  {
    title: 'one path for a directory and a link',
    config: { ignition: { version: '3.1.0' }, storage: { directories: [{ path: '/a' }], links: [{ path: '/a', target: '/b' }] } },
    faults: [error('$.storage.links[0].path', '"/a" is already used at $.storage.directories[0].path')],
  },
  {
    title: 'a file below a link of the config',
    config: { ignition: { version: '3.1.0' }, storage: { files: [{ path: '/a/b' }], links: [{ path: '/a', target: '/c' }] } },
    faults: [error(`${FILE}.path`, '"/a/b" is below the link "/a" of the same config')],
  },
  {
    title: 'a mode of more than four octal digits',
    config: withFile({ path: '/a', mode: 4096 }),
    faults: [error(`${FILE}.mode`, '4096 is not between 0 and 4095 (octal 7777)')],
  },
  {
    title: 'a negative mode',
    config: withFile({ path: '/a', mode: -1 }),
    faults: [error(`${FILE}.mode`, '-1 is not between 0 and 4095 (octal 7777)')],
  },
  {
    title: 'the decimal mode 755',
    config: withFile({ path: '/a', mode: 755 }),
    faults: [error(`${FILE}.mode`, '755 is decimal and means octal 1363; write 493 for octal 0755')],
  },
  {
    title: 'the decimal mode 644',
    config: withFile({ path: '/a', mode: 644 }),
    faults: [error(`${FILE}.mode`, '644 is decimal and means octal 1204; write 420 for octal 0644')],
  },
  {
    title: 'the decimal mode 755 of a directory',
    config: { ignition: { version: '3.2.0' }, storage: { directories: [{ path: '/a', mode: 755 }] } },
    faults: [error('$.storage.directories[0].mode', '755 is decimal and means octal 1363; write 493 for octal 0755')],
  },
  {
    title: 'a setuid mode',
    config: withFile({ path: '/a', mode: 0o4755 }),
    faults: [
      {
        kind: 'warning',
        path: `${FILE}.mode`,
        message: '2541 is octal 4755; setuid, setgid and sticky bits are not supported before specification 3.4.0',
      },
    ],
  },
  {
    title: 'overwriting with nothing',
    config: withFile({ path: '/a', overwrite: true }),
    faults: [error(`${FILE}.overwrite`, 'it is true, but there is no contents.source to write')],
  },
  {
    title: 'an unknown scheme',
    config: withSource('ftp://host/file'),
    faults: [error(`${FILE}.contents.source`, '"ftp://host/file" has no scheme of specification 3.1.0 (http, https, tftp, s3, data)')],
  },
  {
    title: 'a scheme that came with 3.2.0',
    config: withSource('gs://bucket/file'),
    faults: [error(`${FILE}.contents.source`, '"gs://bucket/file" has no scheme of specification 3.1.0 (http, https, tftp, s3, data)')],
  },
  {
    title: 'a source without any scheme',
    config: withSource('/etc/file', '3.2.0'),
    faults: [error(`${FILE}.contents.source`, '"/etc/file" has no scheme of specification 3.2.0 (http, https, tftp, s3, gs, data)')],
  },
  {
    title: 'a data URL without content',
    config: withSource('data:text/plain;base64'),
    faults: [
      error(`${FILE}.contents.source`, 'the data URL "data:" cannot be decoded: it does not have the form data:[type][;base64],content'),
    ],
  },
  {
    title: 'base64 without padding',
    config: withSource('data:;base64,YQ'),
    faults: [error(`${FILE}.contents.source`, 'the data URL "data:;base64," cannot be decoded: its content is not padded base64')],
  },
  {
    title: 'a bare blank in a data URL',
    config: withSource('data:,a b'),
    faults: [
      error(`${FILE}.contents.source`, 'the data URL "data:," cannot be decoded: its content has a character that must be written as %XX'),
    ],
  },
  {
    title: 'a fault in what is appended',
    config: withFile({ path: '/a', append: [{ source: 'data:,ok' }, { source: 'file:///x' }] }),
    faults: [error(`${FILE}.append[1].source`, '"file:///x" has no scheme of specification 3.1.0 (http, https, tftp, s3, data)')],
  },
  {
    title: 'a compression that is not gzip',
    config: withFile({ path: '/a', contents: { source: 'data:,x', compression: 'xz' } }),
    faults: [error(`${FILE}.contents.compression`, '"xz" is not gzip')],
  },
  ...['nodash', 'md5-00', 'sha256-00', `sha256-${hex(128)}`, `sha512-${'x'.repeat(128)}`].map((hash) => ({
    title: `the hash ${hash.slice(0, 12)}`,
    config: withFile({ path: '/a', contents: { source: 'data:,x', verification: { hash } } }),
    faults: [error(`${FILE}.contents.verification.hash`, `"${hash}" is not sha512- with 128 or sha256- with 64 hex digits`)],
  })),
  {
    title: 'a unit without a suffix',
    config: withUnit({ name: 'a.servic' }),
    faults: [error(`${UNIT}.name`, '"a.servic" does not have the suffix of a unit, such as .service')],
  },
  {
    title: 'one unit twice',
    config: { ignition: { version: '3.1.0' }, systemd: { units: [{ name: 'a.service' }, { name: 'a.service' }] } },
    faults: [error('$.systemd.units[1].name', `"a.service" is already used at ${UNIT}.name`)],
  },
  {
    title: 'a unit with a section that does not close',
    config: withUnit({ name: 'a.service', contents: '[Unit\nDescription=x\n' }),
    faults: [error(`${UNIT}.contents`, 'line 1 is not a section, an option or a comment')],
  },
  {
    title: 'a unit with a line that is no option',
    config: withUnit({ name: 'a.service', contents: '[Unit]\nDescription\n' }),
    faults: [error(`${UNIT}.contents`, 'line 2 is not a section, an option or a comment')],
  },
  {
    title: 'an enabled unit that nothing starts',
    config: withUnit({ name: 'a.service', enabled: true, contents: '[Unit]\nDescription=x\n' }),
    faults: [
      { kind: 'warning', path: `${UNIT}.contents`, message: '"a.service" is enabled but has no [Install] section, so nothing starts it' },
    ],
  },
  {
    title: 'a drop-in without .conf',
    config: withUnit({ name: 'a.service', dropins: [{ name: 'x.con', contents: '[Unit]\n' }] }),
    faults: [error(`${UNIT}.dropins[0].name`, '"x.con" does not end in .conf')],
  },
  {
    title: 'one drop-in twice',
    config: withUnit({ name: 'a.service', dropins: [{ name: 'x.conf' }, { name: 'x.conf' }] }),
    faults: [error(`${UNIT}.dropins[1].name`, `"x.conf" is already used at ${UNIT}.dropins[0].name`)],
  },
  {
    title: 'a drop-in with a stray line',
    config: withUnit({ name: 'a.service', dropins: [{ name: 'x.conf', contents: '[Unit]\nAfter\n' }] }),
    faults: [error(`${UNIT}.dropins[0].contents`, 'line 2 is not a section, an option or a comment')],
  },
];

/** Configs in which nobody finds a fault. */
export const accepted: readonly object[] = [
  { ignition: { version: '3.1.0' } },
  withSource(''),
  withSource('gs://bucket/file', '3.2.0'),
  withSource('data:,a%20b'),
  withFile({
    path: '/a',
    mode: 0o777,
    overwrite: true,
    contents: { source: 'https://host/file', compression: 'gzip', verification: { hash: `sha256-${hex(64)}` } },
  }),
  withFile({ path: '/a', mode: null, contents: { source: 'data:,x', compression: '', verification: { hash: `sha512-${hex(128)}` } } }),
  withUnit({
    name: 'a.service',
    enabled: false,
    contents: '# note\n\n[Service]\nExecStart=/bin/a \\\n  --long\n; note\n',
    dropins: [{ name: '10.conf' }],
  }),
  withUnit({ name: 'a.service', mask: true }),
];
