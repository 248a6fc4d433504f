"""The named places of a Mamba language model, which capture, lenses and figures find by these names."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Site:
    """One kind of place that states can be read from.

    Attributes:
        name: what users type, e.g. `resid_post`.
        path: module path below the backbone; `{i}` is the block's index, absent for sites that exist once.
        shape: axes of what the hook sees, in the letters of `emma_viz.shapes`.
        meaning: what the states are.
        in_mixer: whether it lies inside a state-space mixer, which not every block of a hybrid has.
    """

    name: str
    path: str
    shape: str
    meaning: str
    in_mixer: bool = False

    @property
    def layered(self) -> bool:
        """Whether blocks have this site, each its own."""
        return "{i}" in self.path

    def hook_name(self, layer: int) -> str:
        """The long form, as in `blocks.3.hook_resid_post`."""
        return f"blocks.{layer}.hook_{self.name}" if self.layered else f"hook_{self.name}"


def _block(name: str, shape: str, meaning: str) -> Site:
    return Site(name=name, path=f"layers.{{i}}.hook_{name}", shape=shape, meaning=meaning)


def _mixer(name: str, shape: str, meaning: str) -> Site:
    return Site(
        name=name, path=f"layers.{{i}}.mixer.hook_{name}", shape=shape, meaning=meaning, in_mixer=True
    )


SITES = {
    "resid_pre": _block("resid_pre", "B L D", "the residual stream that enters the block"),
    "mixer_in": _block("mixer_in", "B L D", "the normalised residual stream, which the mixer reads"),
    "mixer_out": _block("mixer_out", "B L D", "what the mixer adds to the residual stream (EMMA's taps)"),
    "resid_post": _block("resid_post", "B L D", "the residual stream after the block: resid_pre + mixer_out"),
    "x": _mixer(
        "x", "B L E (Mamba-2: B L E+2·G·N)", "what enters the causal convolution (Mamba-2: with B and C)"
    ),
    "z": _mixer("z", "B L E", "the gate, before its SiLU"),
    "conv_pre": _mixer(
        "conv_pre", "B L E (Mamba-2: B L E+2·G·N)", "after the causal convolution, before its SiLU"
    ),
    "conv": _mixer("conv", "B L E", "after the causal convolution and SiLU: what enters the SSM"),
    "delta": _mixer("delta", "B L E (Mamba-2: B L H)", "the step size Δ, after softplus"),
    "B": _mixer("B", "B L N (Mamba-2: B L G·N)", "how each token writes to the state"),
    "C": _mixer("C", "B L N (Mamba-2: B L G·N)", "how each token reads the state"),
    "scan": _mixer("scan", "B L E", "what the SSM gives, before the gate (Mamba-2: and before its norm)"),
    "y": _mixer("y", "B L E", "what the SSM gives, gated, before out_proj"),
    "norm_f": Site(
        name="norm_f",
        path="hook_norm_f",
        shape="B L D",
        meaning="the final hidden state, after the last norm; kept under the last block's index",
    ),
}
"""Every named site. `resid_post` also has layer -1, the embedding that enters block 0."""
