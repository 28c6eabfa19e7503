/** How a store image is opened. Settings, flags, states and records use the same words. */

/** `verity`: the kernel checks each read. `hash`: the agent hashes the image before the mount. `background`: after the mount, while the node boots. */
export const TRUSTS = ['verity', 'hash', 'background'] as const;
export type Trust = (typeof TRUSTS)[number];
export const TRUST_CHOICES = ['auto', ...TRUSTS] as const;
export type TrustChoice = (typeof TRUST_CHOICES)[number];

/** Where the open image is kept: in memory, on the data partition, or on the root disk. */
export const PLACEMENTS = ['ram', 'partition', 'disk'] as const;
export type Placement = (typeof PLACEMENTS)[number];
export const PLACEMENT_CHOICES = ['auto', ...PLACEMENTS] as const;
export type PlacementChoice = (typeof PLACEMENT_CHOICES)[number];

/** `kernel`: the kernel checks each read. `before-mount`, `yes`: the image was hashed before or after the mount. `pending`: not checked yet. */
export const VERIFIED = ['kernel', 'before-mount', 'pending', 'yes'] as const;
export type Verified = (typeof VERIFIED)[number];
