/** Spellings of skopeo and podman, whose flags are booleans of Go. Source: Go, strconv.ParseBool. */
const TLS_VERIFY = /^--tls-verify=(?:(1|t|true)|0|f|false)$/i;

/** A command line with `--tls-verify=false` as `--no-tls-verify`, and `--tls-verify=true` as `--tls-verify`. Pure. */
export function withoutHabits(args: readonly string[]): readonly string[] {
  const end = args.indexOf('--');
  return args.map((arg, index) => {
    const found = end >= 0 && index > end ? null : TLS_VERIFY.exec(arg);
    if (found === null) return arg;
    return found[1] === undefined ? '--no-tls-verify' : '--tls-verify';
  });
}
