"""Procedural rooms and still lifes: geometry, textures, lamps and cameras, no renderer."""
