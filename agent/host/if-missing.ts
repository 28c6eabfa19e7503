/** Handles the refusal of a file or directory that is not there, by giving something else; any other refusal is thrown on. */
export function ifMissing<T>(instead: () => T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return instead();
    throw error;
  };
}
