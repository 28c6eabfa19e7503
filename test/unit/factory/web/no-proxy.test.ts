import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isWithoutProxy } from '../../../../agent/factory/web/no-proxy.ts';

for (const [noProxy, direct, proxied] of [
  ['', [], ['http://a.example/', 'https://10.0.0.1/']],
  ['*', ['http://a.example/', 'https://[fd00::1]:5000/'], []],
  ['10.0.0.0/8', ['http://10.1.2.3/', 'https://10.255.0.1:5000/x'], ['http://11.0.0.1/', 'http://a.example/', 'http://[fd00::1]/']],
  ['fd00::/8, 192.168.1.0/24', ['http://[fd12::7]/', 'http://192.168.1.9/'], ['http://[fe80::1]/', 'http://192.168.2.9/']],
  ['10.0.0.0/33, fd00::/129, x/8', [], ['http://10.0.0.1/', 'http://[fd00::1]/', 'http://x/']],
  ['10.0.0.1', ['http://10.0.0.1:8080/'], ['http://10.0.0.10/', 'http://a.10.0.0.1.example/']],
  ['10.0.0.1:8080,[fd00::1]:443', ['http://10.0.0.1:8080/', 'https://[fd00::1]/'], ['http://10.0.0.1/', 'http://[fd00::1]/']],
  ['FD00:0::1', ['http://[fd00::1]/'], ['http://[fd00::2]/']],
  ['example.com', ['http://example.com/', 'https://a.b.Example.com/', 'http://example.com./'], ['http://badexample.com/', 'http://com/']],
  ['.example.com', ['http://a.example.com/'], ['http://example.com/']],
  ['*.example.com', ['http://a.example.com/'], ['http://example.com/']],
  ['example.com:5000', ['http://example.com:5000/', 'http://a.example.com:5000/'], ['http://example.com/']],
  ['example.com:443', ['https://example.com/'], ['http://example.com/']],
  [' , ,example.com , ', ['http://example.com/'], ['http://other/']],
  ['exa:mple:com', [], ['http://example.com/']],
] as const)
  test(`NO_PROXY=${JSON.stringify(noProxy)} means what it means for pull`, () => {
    for (const url of direct) assert.equal(isWithoutProxy(new URL(url), noProxy), true, url);
    for (const url of proxied) assert.equal(isWithoutProxy(new URL(url), noProxy), false, url);
  });
