"""Table 3 and Table 7 of every family on one machine: what is counted; how long it takes is not looked at."""

from emma_viz.session import Running
from emma_viz.session.benchmarks.components import component_costs
from emma_viz.session.benchmarks.timing import latency


def test_every_family_answers_with_forced_tokens(member):
    running = Running(vision_source=str(member.folder / "eye.safetensors"))
    table = latency([member.folder], tokens=3, repeats=1, running=running)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["image tokens"] == member.loaded.vlm.n_image_tokens
    assert 0 < row["to first token (s)"].value <= row["T_avg (s)"].value


def test_the_components_of_every_family_are_all_of_it(member):
    table = component_costs([member.loaded], repeats=1)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    own = ("vision encoders (ViT)", "projector", "language model (LLM)")
    assert tuple(each["component"] for each in rows if each["component"] in own) == own
    whole = sum(each["parameters"] for each in rows if each["component"] in own)
    assert whole == sum(each.numel() for each in member.loaded.vlm.parameters())
    assert all(each["time (ms)"].value > 0 for each in rows)
    fused = {each["component"] for each in rows} >= {"feature fusion (MFF)", "pixel decoder"}
    assert fused == (member.loaded.config.lens_form is not None)
