"""A probe in one file, as a user would write it (docs/extending/add-a-probe.md)."""

from probes.numbers import averaged, layer_chart
from probes.protocol import Measure, Needs, Seen


class Loudness:
    """How long the image tokens' vectors are at each layer."""

    name = "loudness"
    title = "Length of the image tokens"
    question = "How long are the vectors of the image tokens at each layer?"
    method = "The mean Euclidean length over an image's tokens."

    def needs(self):
        """The residual stream of image tokens."""
        return Needs(sites=("resid_post",))

    def see(self, batch):
        """The mean length of each image's tokens, by layer."""
        lengths = {
            f"layer{k}": batch.trace["resid_post", k].norm(dim=-1).mean(dim=-1).numpy() for k in batch.layers
        }
        return Seen(columns=lengths)

    def measures(self, gathered):
        """Its mean over images, by layer."""
        found = []
        for layer in gathered.layers:
            columns, mean = averaged(gathered.columns[f"layer{layer}"])
            found.append(
                Measure(name="loudness", title="mean length", layer=layer, columns=columns, statistic=mean)
            )
        return found

    def plots(self, results):
        """The curve by layer."""
        chart = layer_chart(results, "loudness", name="length", title="Length by layer", y_title="length")
        return [chart] if chart else []

    def summary(self, results):
        """Nothing for the top of the report."""
        return ""


PROBE = Loudness
