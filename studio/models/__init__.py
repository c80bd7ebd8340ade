"""Models: found by name, accepted by content, loaded from diffusers-layout folders."""
