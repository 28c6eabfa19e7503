import { type ExecResult, howEnded, quote } from '../../host/exec.ts';
import { type ErrorCode, PrestageError } from '../../model/errors.ts';

interface Failure {
  readonly code: ErrorCode;
  /** Matches skopeo's message; containers/image passes most of it on from the registry or from Go's network code. */
  readonly pattern: RegExp;
  readonly what: string;
  readonly remedy: string;
}

/**
 * The meanings of skopeo's messages. The first match counts, so narrow patterns stand before broad ones.
 * Source: containers/image, docker/errors.go and docker_client.go; distribution, registry/api/errcode; tried with skopeo 1.9.3.
 */
const FAILURES: readonly Failure[] = [
  {
    code: 'ERR_PULL_DIGEST',
    pattern: /digest did not match|does not match (?:expected|the|provided manifest) digest|digest mismatch|size mismatch/i,
    what: 'the registry sent data with another digest',
    remedy: 'Check for a proxy that changes data on its way from the registry, then pull again',
  },
  {
    code: 'ERR_PULL_TLS',
    pattern: /x509:|tls: (?!handshake timeout)|server gave HTTP response to HTTPS client|certificate (?:signed|is not|has expired)/i,
    what: 'the TLS connection to the registry is not trusted',
    remedy: 'Give its certificate with --ca FILE, or --no-tls-verify if the network is trusted',
  },
  {
    code: 'ERR_PULL_LIMIT',
    pattern: /toomanyrequests|too many requests|status ?(?:code)?(?: from registry)?:? 429/i,
    what: 'the registry limits the number of requests',
    remedy: 'Pull again later or with a smaller --parallel, or log in: logins have higher limits',
  },
  {
    code: 'ERR_PULL_SERVER',
    pattern: /status ?(?:code)?(?: from registry)?:? 5\d\d|internal server error|bad gateway|service unavailable|gateway time-?out/i,
    what: 'the registry answered with a server error',
    remedy: 'Pull again later: pulled blobs are kept',
  },
  {
    code: 'ERR_PULL_LOGIN',
    pattern: /unauthorized|invalid username\/password|authentication required|status ?(?:code)?(?: from registry)?:? 401/i,
    what: 'the registry requires a login, or rejects the one that was given',
    remedy: 'Log in with skopeo login REGISTRY, or give --authfile',
  },
  {
    code: 'ERR_PULL_DENIED',
    pattern:
      /denied:|access to the (?:requested )?resource is (?:denied|not authorized)|forbidden|status ?(?:code)?(?: from registry)?:? 403/i,
    what: 'the registry denies these credentials access to the image',
    remedy: 'Ask for access to the repository, or give another --authfile',
  },
  {
    code: 'ERR_PULL_MISSING',
    pattern:
      /manifest unknown|name unknown|repository name not known|blob unknown|name invalid|not found|status ?(?:code)?(?: from registry)?:? 404/i,
    what: 'the registry has no such image',
    remedy: 'Correct the list, or mirror the image to that registry first',
  },
  {
    code: 'ERR_PULL_POLICY',
    pattern: /source image rejected|policy\.json/i,
    what: 'the policy of this machine does not allow the image',
    remedy: 'Correct /etc/containers/policy.json',
  },
  {
    code: 'ERR_PULL_NETWORK',
    pattern:
      /connection (?:reset|refused|timed out)|\bEOF\b|broken pipe|i\/o timeout|handshake timeout|deadline exceeded|no such host|network is unreachable|no route to host|server misbehaving|http2:|closed (?:network )?connection|server sent GOAWAY|malformed HTTP|timeout awaiting/i,
    what: 'the connection to the registry failed',
    remedy: 'Check network, name service and proxy, then pull again: pulled blobs are kept',
  },
];

/** Names that a message repeats from the request: a repository's name can contain any of these words. */
const NAMES = /(?:docker|https?):\/\/\S+|reading (?:manifest|blob) \S+|\bin \S+\/\S+/g;

/** Failures that may pass after a moment. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set(['ERR_PULL_LIMIT', 'ERR_PULL_SERVER', 'ERR_PULL_NETWORK']);

/** The error for a failed skopeo, by its messages. Pure. */
export function pullFailure(reference: string, result: Pick<ExecResult, 'exitCode' | 'endedBy' | 'stderr'>): PrestageError {
  const said = lastMessage(result.stderr);
  const spoken = said.replaceAll(NAMES, '');
  const found = FAILURES.find(({ pattern }) => pattern.test(spoken));
  if (found !== undefined) return new PrestageError(found.code, `${reference}: ${found.what}: ${quote(said)}`, found.remedy);
  return new PrestageError(
    'ERR_PULL',
    `${reference}: skopeo ${howEnded(result)}: ${quote(said) || 'no message'}`,
    'Try by hand: skopeo inspect --raw docker://REFERENCE',
  );
}

/** Whether a retry may succeed soon. */
export function isTransient(error: unknown): boolean {
  return error instanceof PrestageError && TRANSIENT.has(error.code);
}

/**
 * skopeo's last message without its progress lines: references and digests in them could be taken for messages.
 * Source: logrus, text formatter: `time="…" level=fatal msg="…"`.
 */
function lastMessage(stderr: string): string {
  const lines = stderr.trim().split('\n');
  const fatal = lines.findLast((line) => /level=(?:fatal|error)/.test(line)) ?? lines.at(-1) ?? '';
  const message = /msg="((?:[^"\\]|\\.)*)"/.exec(fatal)?.[1];
  return message === undefined ? fatal : message.replaceAll('\\"', '"');
}
