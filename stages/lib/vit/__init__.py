"""Vision transformers (ViT, DeiT): parts, the plain net, and the recipe they are trained with. Imports no torch by itself."""
