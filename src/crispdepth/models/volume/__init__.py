"""Posed features and depth, embedded in one volume, to the signed distance of a surface.

VolumeFusion (Choe et al., ICCV 2021): local stereo with overlap masks, then fusion.
"""
