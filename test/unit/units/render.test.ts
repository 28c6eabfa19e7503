import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asset } from '../../../agent/assets.ts';
import { decodeDataUrl } from '../../../agent/model/data-url.ts';
import { exitCodes } from '../../../agent/model/errors.ts';
import type { Stage } from '../../../agent/model/stage.ts';
import { STAGES } from '../../../agent/model/stage.ts';
import { IGNITION_FORMS, type IgnitionForm, renderForm } from '../../../agent/units/forms.ts';
import { type FailurePolicy, renderLauncherEnv, renderUnit } from '../../../agent/units/render.ts';
import { assertGolden } from '../../support/golden.ts';
import { ourIgnition, PIN, shippedTexts } from '../../support/ignition.ts';
import { thrownBy } from '../../support/thrown.ts';

const POLICIES: readonly FailurePolicy[] = ['open', 'closed'];
const SUFFIX: Record<IgnitionForm, string> = {
  ign: 'json',
  patch: 'json',
  curl: 'sh',
  infraenv: 'yaml',
  siteconfig: 'yaml',
  clusterinstance: 'yaml',
  bmh: 'yaml',
  'installer-args': 'json',
};
/** What does not exist: an InfraEnv carries the override of the discovery, a BareMetalHost that of the host. */
const wrongForms: readonly (readonly [Stage, IgnitionForm])[] = [
  ['installed', 'infraenv'],
  ['discovery', 'bmh'],
];

for (const stage of STAGES) {
  for (const policy of POLICIES) {
    test(`the ${stage} unit with the policy ${policy} is the golden one`, () => {
      assertGolden(`units/${stage}-${policy}.service`, renderUnit(shippedTexts(stage).unit, { label: 'data', policy }));
    });
  }
  for (const form of IGNITION_FORMS) {
    if (wrongForms.some(([wrongStage, wrongForm]) => wrongStage === stage && wrongForm === form)) continue;
    test(`the ${stage} override as ${form} is the golden one`, () => {
      const config = ourIgnition(stage, { spec: stage === 'discovery' ? '3.1.0' : '3.2.0' });
      const { text, warnings } = renderForm(form, { stage, config, label: 'data' });
      assertGolden(`ignition/${stage}.${form}.${SUFFIX[form]}`, text);
      assert.deepEqual(warnings, []);
    });
  }
}

for (const [stage, form] of wrongForms) {
  test(`the ${stage} override has no form ${form}`, () => {
    const error = thrownBy(() => renderForm(form, { stage, config: ourIgnition(stage), label: 'data' }));
    assert.equal(error.code, 'ERR_USAGE');
    assert.match(error.message, new RegExp(`^the form ${form} cannot be used for the stage ${stage}: `));
    assert.match(error.remedy, /^Use --as siteconfig, clusterinstance or bmh$|^Use --as infraenv, siteconfig or clusterinstance$/);
  });
}

test('the annotations of a BareMetalHost have to fit into an object', () => {
  const config = { ...ourIgnition('installed'), note: 'x'.repeat(262_144) };
  const error = thrownBy(() => renderForm('bmh', { stage: 'installed', config, label: 'data' }));
  assert.equal(error.code, 'ERR_IGNITION_SIZE');
  assert.match(error.message, /^the set of annotations of the BareMetalHost has 26\d{4} bytes, but at most 262144 fit$/);
});

test('a BareMetalHost whose annotations are nearly full comes with a warning', () => {
  const config = { ...ourIgnition('installed'), note: 'x'.repeat(230_000) };
  assert.equal(renderForm('bmh', { stage: 'installed', config, label: 'data' }).warnings.length, 1);
});

test('the override carries the launcher byte for byte, and its environment with the pin', () => {
  const files = ourIgnition('installed', { label: 'factory.1' }).storage?.files ?? [];
  const carried = files.map(({ path, mode, contents }) => ({ path, mode, text: textOf(contents?.source ?? '') }));
  assert.deepEqual(carried, [
    { path: '/usr/local/bin/prestage-launcher', mode: 0o755, text: asset('agent/units/prestage-launcher.sh') },
    { path: '/etc/prestage-agent/launcher.env', mode: 0o644, text: `LABEL=factory.1\nAGENT_SHA256=${PIN}\n` },
  ]);
});

test('without a pin the environment has an empty one', () => {
  assert.equal(renderLauncherEnv({ label: 'data', agentSha256: undefined }), 'LABEL=data\nAGENT_SHA256=\n');
});

test('the launcher is at most 2.5 KB', () => {
  const sizeBytes = Buffer.byteLength(asset('agent/units/prestage-launcher.sh'));
  assert.ok(sizeBytes <= 2560, `${sizeBytes} bytes`);
});

for (const label of ['', 'with blank', 'a"b', '%n', '$(id)', 'data;', '-data', 'x'.repeat(37), 'da\nta', 'ü']) {
  test(`the label ${JSON.stringify(label)} is refused, for a unit or a shell would read it differently`, () => {
    const expected = {
      code: 'ERR_USAGE',
      message: `${JSON.stringify(label)} is not a valid label: use 1 to 36 letters, digits, dots, underscores or hyphens, starting with a letter or digit`,
      remedy: 'Relabel the data partition (sgdisk --change-name N:data DISK) and set --label',
    };
    assert.deepEqual(
      thrownBy(() => renderUnit(shippedTexts('discovery').unit, { label, policy: 'open' })),
      expected,
    );
    assert.deepEqual(
      thrownBy(() => renderLauncherEnv({ label, agentSha256: PIN })),
      expected,
    );
  });
}

for (const agentSha256 of ['', 'abc', PIN.toUpperCase(), `sha256:${PIN}`, `${PIN}\nLABEL=x`]) {
  test(`the digest ${JSON.stringify(agentSha256.slice(0, 20))} is refused`, () => {
    assert.deepEqual(
      thrownBy(() => renderLauncherEnv({ label: 'data', agentSha256 })),
      {
        code: 'ERR_USAGE',
        message: `"${agentSha256}" is not a sha256: it must be 64 lower-case hex digits`,
        remedy: 'Set --agent-sha256 to the first field of: sha256sum prestage-agent-linux-x64',
      },
    );
  });
}

test('a pinned bundle is passed to the agent, and a pin that is none is refused', () => {
  const render = (bundleSha256: string) =>
    renderUnit('ExecStart=run --lock-wait 600@PIN@\n', { label: 'data', policy: 'open', bundleSha256 });
  assert.equal(render('a'.repeat(64)), `ExecStart=run --lock-wait 600 --bundle-sha256 ${'a'.repeat(64)}\n`);
  assert.equal(thrownBy(() => render('a b')).message, '"a b" is not a sha256: it must be 64 lower-case hex digits');
});

test('an unknown placeholder of a template is refused', () => {
  assert.deepEqual(
    thrownBy(() => renderUnit('[Unit]\nDescription=@NAME@\n', { label: 'data', policy: 'open' })),
    {
      code: 'ERR_INTERNAL',
      message: 'the template has an unknown placeholder @NAME@',
      remedy: 'Use one of @LABEL@, @POLICY@, @PIN@, @SETTINGS@',
    },
  );
});

test('the units tolerate exactly the exit codes that a run with the policy open ends in', () => {
  const tolerated = Object.values(exitCodes).flatMap((code) => (code >= exitCodes.partial && code < exitCodes.unknown ? [code + 64] : []));
  const line = `SuccessExitStatus=${tolerated.join(' ')}`;
  assert.deepEqual(
    STAGES.map((stage) =>
      shippedTexts(stage)
        .unit.split('\n')
        .filter((text) => text.startsWith('SuccessExitStatus=')),
    ),
    [[line], [line]],
  );
});

const needy: readonly (readonly [stage: Stage, policy: FailurePolicy, requiring: readonly string[]])[] = [
  ['discovery', 'open', []],
  ['discovery', 'closed', ['RequiredBy=agent.service']],
  ['installed', 'open', []],
  ['installed', 'closed', ['RequiredBy=kubelet-dependencies.target']],
];
for (const [stage, policy, requiring] of needy) {
  test(`${requiring.length === 0 ? 'nothing' : 'what needs the images'} requires the unit with the policy ${policy} (${stage})`, () => {
    // systemd.unit(5): what makes another unit fail, stop or wait for ever with this one, or this one act on the machine when it fails.
    const ties = /^(?:Required|Requisite|Upheld|BoundBy|ConsistsOf|BindsTo|PartOf|OnFailure|FailureAction|SuccessAction)\w*=.*$/gm;
    const unit = renderUnit(shippedTexts(stage).unit, { label: 'data', policy });
    assert.deepEqual(
      [...unit.matchAll(ties)].map(([line]) => line),
      requiring,
    );
    assert.match(unit, stage === 'discovery' ? /^Before=agent\.service$/m : /^Before=.* kubelet-dependencies\.target crio\.service$/m);
  });
}

test('the units make no mount namespace, for mounts made in one do not reach the node', () => {
  // systemd.exec(5): all of these give the service a mount namespace of its own.
  const makers =
    /^(?:Protect(?!Clock|Hostname)\w*|Private\w+|Read(?:Write|Only)Paths|InaccessiblePaths|ExecPaths|NoExecPaths|TemporaryFileSystem|Bind(?:ReadOnly)?Paths|RootDirectory|RootImage|MountFlags|MountAPIVFS|MountImages|ExtensionImages|DynamicUser|\w+Directory|RestrictNamespaces)=/m;
  for (const stage of STAGES) assert.doesNotMatch(shippedTexts(stage).unit, makers);
});

function textOf(source: string): string {
  const decoded = decodeDataUrl(source);
  return decoded.kind === 'bytes' ? Buffer.from(decoded.bytes).toString('utf8') : decoded.message;
}
