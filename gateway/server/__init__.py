"""All uses of internals of hypercorn, h11, h2 and wsproto; README.md justifies each component."""
