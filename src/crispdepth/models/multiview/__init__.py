"""The mask-guided multi-view network: posed photos with soft masks to depth and Gaussians."""
