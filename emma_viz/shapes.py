"""The glossary of axis names, used in every shape annotation of the package.

    B   batch (images, or sequences)
    L   tokens of the whole sequence: the T image tokens first, then the text tokens
    T   image tokens, T = R·C, row-major from the top left
    R   rows of the patch grid          C   columns of the patch grid
    p   side of a patch, pixels         c   colour channels, always RGB
    S   side of the model's square input image, pixels
    Y   layers that were kept, in the order of `layers`
    D   width of the residual stream (d_model)
    E   inner width of a mixer (d_inner = expand · D)
    N   state size of the SSM (d_state)
    K   width of the causal convolution (d_conv)
    H   heads of a Mamba-2 mixer        P   channels of a head (headdim)
    G   groups that share B and C in Mamba-2
    V   vocabulary
    Q   tokens of an instruction, padding included, for models whose image tokens depend on it

Annotations read `Float[Tensor, "B L D"]`. Layers are zero-based; layer -1 stands for what enters
block 0 (the embedding). Pixels are float32 in [0, 1] unless a name says otherwise.
"""

EMBEDDING = -1
"""The layer index that stands for the input of block 0."""

CHANNELS = 3
"""Colour channels of every image in the package (RGB)."""
