/** Handles the error for a missing file or directory by returning another value; rethrows any other error. */
export function ifMissing<T>(instead: () => T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return instead();
    throw error;
  };
}
