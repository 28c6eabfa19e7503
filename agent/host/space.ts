import { readFile, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

/** A file system as far as the plan has to know it. Sizes are bytes. */
export interface FileSystemSpace {
  readonly path: string;
  readonly sizeBytes: number;
  /** Free for root and others alike (f_bavail). */
  readonly freeBytes: number;
  /** Held in memory (tmpfs or ramfs): what is written there is gone from the RAM. */
  readonly inMemory: boolean;
  /** Equal for two paths on one file system, as far as size and kind can tell. */
  readonly id: string;
}

/** f_type of tmpfs and ramfs. Source: statfs(2). */
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** The space of the file system that holds a path, or that would hold it: the nearest directory that exists is asked. */
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

/** Memory of the machine, and what programs can still take of it without swapping, in bytes. Source: proc_meminfo(5), MemTotal, MemAvailable. */
export async function memoryBytes(): Promise<{ readonly total: number; readonly available: number }> {
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1] ?? 0) * 1024;
  return { total: field('MemTotal'), available: field('MemAvailable') };
}

/** Memory that programs can still take without swapping, in bytes. */
export async function availableMemoryBytes(): Promise<number> {
  return (await memoryBytes()).available;
}
