"""Speckle: specks that were planted before one block are found there, and are the longest vectors."""

import numpy as np

from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from probes.content.speckle import Speckle
from probes.examination import examine
from probes.findings import find
from probes.protocol import Result


def test_specks_that_were_planted_are_found_at_their_layer(tiny, plan):
    rows, columns = tiny.vlm.grid
    loud = (columns + 1,)
    width = tiny.vlm.llm.config.d_model
    value = np.full(width, 1e4, np.float32)
    planted = Intervention(kind="replace", site="resid_pre", tokens=loud, layers=(1,), value=value)
    with intervene(tiny, [planted]):
        _, gathered = examine(tiny, plan(Speckle()))["speckle"]
    result = Result(gathered=gathered, findings=find(Speckle().measures(gathered)))
    share = {each.measure.layer: each.number.value for each in result.curve("speckle.specks")}
    assert share[1] == len(loud) / (rows * columns)
    assert share[0] < share[1]
    assert {each.measure.layer: each.number.value for each in result.curve("speckle.long")}[1] > 0.4
    assert len(Speckle().plots([result])) == 2
    assert "isolated" in Speckle().summary([result])
