import { readFile, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The facts about a file system that a plan needs. Sizes are in bytes. */
export interface FileSystemSpace {
  readonly path: string;
  readonly sizeBytes: number;
  /** Free for all users (f_bavail). */
  readonly freeBytes: number;
  /** In memory (tmpfs or ramfs): files there take up RAM. */
  readonly inMemory: boolean;
  /** Equal for two paths on the same file system, as far as size and type can tell. */
  readonly id: string;
}

/** f_type of tmpfs and ramfs. Source: statfs(2). */
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** The space on the file system of a path. If the path does not exist, its nearest existing parent counts. */
export async function spaceAt(path: string): Promise<FileSystemSpace> {
  try {
    const found = await statfs(path);
    return {
      path,
      sizeBytes: found.blocks * found.bsize,
      freeBytes: found.bavail * found.bsize,
      inMemory: found.type === TMPFS_MAGIC || found.type === RAMFS_MAGIC,
      id: `${found.type}:${found.blocks}:${found.files}`,
    };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT') || dirname(path) === path) throw error;
    return { ...(await spaceAt(dirname(path))), path };
  }
}

/** Memory of the machine, and the part that programs can still use without swapping, in bytes. Source: proc_meminfo(5), MemTotal, MemAvailable. */
export async function memoryBytes(): Promise<{ readonly total: number; readonly available: number }> {
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0) * 1024;
  return { total: field('MemTotal'), available: field('MemAvailable') };
}

/** Memory that programs can still use without swapping, in bytes. */
export async function availableMemoryBytes(): Promise<number> {
  return (await memoryBytes()).available;
}
