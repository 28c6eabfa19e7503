import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIndexPage } from '../../../../agent/factory/fetch/index-page.ts';
import { isInnerPath } from '../../../../agent/model/bundle.ts';
import { FUZZ } from '../../../support/fuzz.ts';

const FOLDER = new URL('http://factory.example/4.14/');

/** Names with all that servers write in different ways, and the same name twice. */
const NAMES: readonly string[] = [
  'a b.tgz',
  'ocp-v4.0-art-dev@sha256_00.tgz',
  'x:y&z<w>.tgz',
  `q'uo"te.tgz`,
  'ümlaut.txt',
  'per%cent+plus.txt',
  '#hash?.txt',
];

/** As nginx 1.22 writes it; names longer than 50 characters are cut in the text, not in the link. */
const NGINX = `<html>
<head><title>Index of /4.14/</title></head>
<body>
<h1>Index of /4.14/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                               21-Nov-2026 08:54                   -
<a href="%23hash%3F.txt">#hash?.txt</a>                                         21-Nov-2026 08:54                   3
<a href="a%20b.tgz">a b.tgz</a>                                            21-Nov-2026 08:54                   3
<a href="ocp-v4.0-art-dev%40sha256_00.tgz">ocp-v4.0-art-dev@sha256_00.tgz</a>                     21-Nov-2026 08:54                   3
<a href="per%25cent%2Bplus.txt">per%cent+plus.txt</a>                                  21-Nov-2026 08:54                   3
<a href="q%27uo%22te.tgz">q'uo&quot;te.tgz</a>                                        21-Nov-2026 08:54                   3
<a href="x%3Ay%26z%3Cw%3E.tgz">x:y&amp;z&lt;w&gt;.tgz</a>                                       21-Nov-2026 08:54                   3
<a href="%C3%BCmlaut.txt">ümlaut.txt</a>                                        21-Nov-2026 08:54                   3
</pre><hr></body>
</html>
`;

/** As Python 3's http.server writes it. */
const PYTHON = `<!DOCTYPE HTML>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Directory listing for /4.14/</title>
</head>
<body>
<h1>Directory listing for /4.14/</h1>
<hr>
<ul>
<li><a href="%23hash%3F.txt">#hash?.txt</a></li>
<li><a href="a%20b.tgz">a b.tgz</a></li>
<li><a href="ocp-v4.0-art-dev%40sha256_00.tgz">ocp-v4.0-art-dev@sha256_00.tgz</a></li>
<li><a href="per%25cent%2Bplus.txt">per%cent+plus.txt</a></li>
<li><a href="q%27uo%22te.tgz">q'uo"te.tgz</a></li>
<li><a href="sub/">sub/</a></li>
<li><a href="x%3Ay%26z%3Cw%3E.tgz">x:y&amp;z&lt;w&gt;.tgz</a></li>
<li><a href="%C3%BCmlaut.txt">ümlaut.txt</a></li>
</ul>
<hr>
</body>
</html>
`;

/** As Apache httpd 2.4 writes it with FancyIndexing and HTMLTable: column links, an absolute parent, `./` before a colon, entities. */
const APACHE = `<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html>
 <head>
  <title>Index of /4.14</title>
 </head>
 <body>
<h1>Index of /4.14</h1>
  <table>
   <tr><th valign="top"><img src="/icons/blank.gif" alt="[ICO]"></th><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
   <tr><th colspan="5"><hr></th></tr>
<tr><td valign="top"><img src="/icons/back.gif" alt="[PARENTDIR]"></td><td><a href="/">Parent Directory</a></td><td>&nbsp;</td></tr>
<tr><td><img src="/icons/unknown.gif" alt="[   ]"></td><td><a href="%23hash%3f.txt">#hash?.txt</a></td><td align="right">2026-11-21 08:54  </td></tr>
<tr><td><a href="a%20b.tgz">a b.tgz</a></td></tr>
<tr><td><a href="ocp-v4.0-art-dev@sha256_00.tgz">ocp-v4.0-art-dev@sha256_0..&gt;</a></td></tr>
<tr><td><a href="per%25cent+plus.txt">per%cent+plus.txt</a></td></tr>
<tr><td><a href="q'uo%22te.tgz">q'uo"te.tgz</a></td></tr>
<tr><td><a href="sub/">sub/</a></td></tr>
<tr><td><a href="./x:y&amp;z%3cw%3e.tgz">x:y&amp;z&lt;w&gt;.tgz</a></td></tr>
<tr><td><a href="%c3%bcmlaut.txt">ümlaut.txt</a></td></tr>
   <tr><th colspan="5"><hr></th></tr>
</table>
<address>Apache/2.4.57 (Debian) Server at factory.example Port 80</address>
</body></html>
`;

function page(...links: readonly string[]): string {
  return `<html><head><title>Index of /4.14/</title></head>${links.map((link) => `<a href="${link}">x</a>`).join('\n')}</html>`;
}

for (const [server, html] of [
  ['nginx', NGINX],
  ['Python', PYTHON],
  ['Apache httpd', APACHE],
] as const) {
  test(`the page of ${server} gives files and folders with their real names, and nothing else`, () => {
    const found = parseIndexPage(html, FOLDER);
    assert.deepEqual(found?.entries.map((entry) => entry.name).toSorted(), [...NAMES, 'sub'].toSorted());
    assert.deepEqual(
      found?.entries.filter((entry) => entry.kind === 'directory'),
      [{ kind: 'directory', name: 'sub', url: 'http://factory.example/4.14/sub/' }],
    );
    assert.deepEqual(found?.refused, []);
  });
}

test('a page that is no index is none: an error page, a home page, nothing', () => {
  for (const html of [
    '<html><title>404 Not Found</title><a href="a.tgz">a</a></html>',
    '<h1>Welcome</h1><a href="a.tgz">a</a>',
    '',
    'Index of /',
  ])
    assert.equal(parseIndexPage(html, FOLDER), undefined);
});

test('links that lead elsewhere, climb, go deeper or hide their name are refused and told', () => {
  const refusedOf = (link: string): readonly string[] => {
    const found = parseIndexPage(page(link), FOLDER);
    assert.deepEqual(found?.entries, [], link);
    return found?.refused ?? [];
  };
  const no = (link: string) => [`"${link}" is not a valid file name`];
  assert.deepEqual(refusedOf('http://other.example/4.14/a.tgz'), ['"http://other.example/4.14/a.tgz" leads to another server']);
  assert.deepEqual(refusedOf('//other.example/4.14/a.tgz'), ['"//other.example/4.14/a.tgz" leads to another server']);
  assert.deepEqual(refusedOf('file:///etc/passwd'), ['"file:///etc/passwd" leads to another server']);
  assert.deepEqual(refusedOf('javascript:alert(1)'), ['"javascript:alert(1)" leads to another server']);
  assert.deepEqual(refusedOf('../secret.tgz'), ['"../secret.tgz" leads out of the folder']);
  assert.deepEqual(refusedOf('%2e%2e/secret.tgz'), ['"%2e%2e/secret.tgz" leads out of the folder']);
  assert.deepEqual(refusedOf('..\\secret.tgz'), ['"..\\\\secret.tgz" leads out of the folder']);
  for (const link of [
    '..%2Fsecret.tgz',
    'a%2Fb.tgz',
    'sub/deeper.tgz',
    'a%00.tgz',
    'a%0A.tgz',
    '%FF.tgz',
    'prestage.json',
    'prestage.json.partial',
    '.prestage-fetch/',
    `${'n'.repeat(256)}`,
  ])
    assert.deepEqual(refusedOf(link), link.length > 160 ? [`"${'n'.repeat(160)}…" is not a valid file name`] : no(link));
  for (const link of ['', '#top', '?C=N;O=D', './', '../', '/', 'a.tgz?x=1', 'lost+found/']) assert.deepEqual(refusedOf(link), [], link);
});

/** Pieces from which hostile pages are made. */
const pieces = fc.constantFrom(
  '<a href="',
  "<a href='",
  '<A HREF=',
  '">',
  "'>",
  '>',
  '<',
  '../',
  '%2e%2e%2f',
  '..\\',
  '%00',
  '//evil/',
  'http:',
  '&#0;',
  '&#47;',
  '&amp;',
  '&#x2f;',
  '&#9999999;',
  'a.tgz',
  ' href=',
  '\n',
  '\u0000',
  '?',
  '#',
  'x'.repeat(300),
);

test('law: whatever the page, every entry is one inner path component below the folder, on its server, once', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(pieces, fc.string({ maxLength: 12, unit: 'binary' })), { maxLength: 60 }), (parts) => {
      const found = parseIndexPage(`<title>Index of /4.14/</title>${parts.join('')}`, FOLDER);
      assert.notEqual(found, undefined);
      const names = found?.entries.map((entry) => entry.name) ?? [];
      assert.deepEqual([...new Set(names)], names);
      for (const { name, url, kind } of found?.entries ?? []) {
        assert.ok(isInnerPath(name) && !name.includes('/'), name);
        assert.ok(url.startsWith(FOLDER.href) && !/[?#]/.test(url), url);
        assert.equal(decodeURIComponent(new URL(url).pathname.slice(FOLDER.pathname.length)), kind === 'directory' ? `${name}/` : name);
      }
    }),
    {
      ...FUZZ,
      // The three ways up that look least like it.
      examples: [[['<a href="', '..\\', '">']], [['<a href="', '%2e%2e%2f', 'a.tgz', '">']], [['<a href="', '&#0;', 'a.tgz', '">']]],
    },
  );
});

test('law: a name that a server encodes comes back as it was', () => {
  const names = fc
    .string({ minLength: 1, maxLength: 40, unit: 'grapheme' })
    .filter(
      (name) =>
        isInnerPath(name) &&
        !name.includes('/') &&
        !name.split('').some((one) => one < ' ' || one === '\u007f') &&
        Buffer.byteLength(name) <= 255,
    );
  fc.assert(
    fc.property(names, (name) => {
      const found = parseIndexPage(page(encodeURIComponent(name).replaceAll("'", '%27')), FOLDER);
      assert.deepEqual(
        found?.entries.map((entry) => entry.name),
        [name],
      );
    }),
    { ...FUZZ },
  );
});

test('a page of 8 MiB made to be slow is read within a second or two', () => {
  for (const piece of ['<', '<a ', '<a href', '<a href="', '<a href=x href=x', `<a ${' '.repeat(4000)}`, '<a \thref \thref', '&#x2f;']) {
    const html = `<title>Index of /</title>${piece.repeat((4 * 2 ** 20) / piece.length)}`;
    // Time of the processor, which a busy machine does not make longer.
    const before = process.cpuUsage();
    parseIndexPage(html, FOLDER);
    const { user } = process.cpuUsage(before);
    assert.ok(user < 4_000_000, `${piece.slice(0, 20)}: ${user} us`);
  }
});
