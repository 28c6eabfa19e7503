/** How a store image is opened. The words stand in settings, flags, states and records alike. */

/** `verity`: the kernel checks what is read. `hash`: the whole image before it is mounted. `background`: afterwards, while the node boots. */
export const TRUSTS = ['verity', 'hash', 'background'] as const;
export type Trust = (typeof TRUSTS)[number];
export const TRUST_CHOICES = ['auto', ...TRUSTS] as const;
export type TrustChoice = (typeof TRUST_CHOICES)[number];

/** Where the open image lies: in memory, on the data partition, on the root disk. */
export const PLACEMENTS = ['ram', 'partition', 'disk'] as const;
export type Placement = (typeof PLACEMENTS)[number];
export const PLACEMENT_CHOICES = ['auto', ...PLACEMENTS] as const;
export type PlacementChoice = (typeof PLACEMENT_CHOICES)[number];

/** `kernel`: what is read, as it is read. `before-mount`, `yes`: the whole image, before or after it was mounted. `pending`: nothing yet. */
export const VERIFIED = ['kernel', 'before-mount', 'pending', 'yes'] as const;
export type Verified = (typeof VERIFIED)[number];
