"""The two-layer refinement network of *Layered Depth Refinement with Mask Guidance*."""
