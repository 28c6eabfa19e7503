import { runProgram } from './cli/program.ts';
import { errorRecord, exitCodes } from './model/errors.ts';

// No top-level await: the executable carries one CommonJS file.
runProgram(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
}).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: unknown) => {
    const { code, message, remedy } = errorRecord(error);
    process.stderr.write(`${code}: ${message}\n${remedy}\n`);
    process.exitCode = exitCodes.internal;
  },
);
