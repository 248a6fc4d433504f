"""Commands that the pages print and no test runs as they stand, each with the reason; they are parsed all the same."""

LEFT_OUT = {
    "they bring packages from the network": (
        "pip install emma-viz",
        "pip install .",
        'pip install "emma-viz[cuda]"',
        'pip install "emma-viz[gradio]"',
        'pip install "emma-viz[casebook]"',
        'pip install "emma-viz[notebooks]"',
        'pip install "emma-viz[train]"',
        'pip install ".[casebook,gradio]"',
        'pip install "emma-viz[casebook,gradio]"',
        "pip install transformer-lens",
        "pip install torch --index-url https://download.pytorch.org/whl/cpu",
    ),
    "they set up, or are, the environment that tests run in": (
        "scripts/demo",
        "scripts/demo path/to/photo.jpg",
        "scripts/test",
        ". .venv/bin/activate",
    ),
    "they take a GPU, several devices or several machines": (
        "scripts/gpu-check",
        "accelerate launch --num_processes 8 -m emma_viz capture pope.jsonl --image-folder coco/val2014 --device cuda "
        "--out pope",
        "accelerate launch --num_machines 2 --machine_rank 0 --main_process_ip … --num_processes 16 -m emma_viz "
        "capture … --out /shared/pope",
        "accelerate launch --config_file training/launch/fsdp2.yaml --num_processes 8 -m emma_viz train joint --recipe "
        "emma-v1-3b …",
        "accelerate launch --config_file training/launch/ddp.yaml --num_processes 2 -m emma_viz train joint …",
    ),
    "they measure for minutes or hours; what they are made of has tests of its own": (
        "OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python -m benchmarks.run --json speed.json --page "
        "docs/benchmarks.md",
        "OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python -m benchmarks.full_size --repeats 3 --json full.json",
        "python -m benchmarks.run --from speed.json --full full.json --page docs/benchmarks.md",
        "python -m benchmarks.kernels",
        "python -m benchmarks.kernels --backends torch cpu <name>",
        "python -m benchmarks.speed.roofline",
        "python -m benchmarks.capture_memory",
        "python -m benchmarks.casebook",
        "python -m benchmarks.load_memory",
        "python -m benchmarks.evidence",
        "python -m benchmarks.hostile.attack",
        "python -m benchmarks.explorer",
        "python -m benchmarks.notebooks",
        "python -m benchmarks.probe_memory",
        "python -m benchmarks.robustness",
        "python -m benchmarks.training",
        "python -m tests.families.measure",
        "python -m training.results",
        "python -m training.results runs/pocket/bundle-seed1 --keep docs/measured/seed-1.npz",
        "python -m training.results --photos caltech101/",
        "python -m training.results runs/photos/bundle --photos caltech101/ --out runs/photos/results",
    ),
    "they train for an hour and more (tests/training trains by the recipe `tiny`)": (
        "emma-viz train pocket-pair",
        "emma-viz train pocket-family",
        "emma-viz train pocket-family --members emma-v2-pocket --start emma_viz/checkpoints/bundled",
        "emma-viz train pocket-pair --seed 1 --start emma_viz/checkpoints/bundled",
        "emma-viz train joint --recipe tiny",
        "python -m training.photos pair --photos caltech101/ --weights efficientnet_lite0.pth --work runs/photos",
        "emma-viz figure photo.jpg --models runs/pocket/bundle/cobra-pocket runs/pocket/bundle/emma-v1-pocket --vision "
        "runs/pocket/bundle/pocket-conv-128px.safetensors --tokenizer runs/pocket/bundle/tokenizer.json",
    ),
    "they change what the repository keeps (judged by tests/test_notebooks.py, tests/release, tests/test_site.py)": (
        "scripts/notebooks",
        "scripts/notebooks out first-figure",
        "scripts/notebooks examples/notebooks",
        "jupyter trust examples/notebooks/*.ipynb",
        "scripts/release",
        "scripts/release --versions lowest",
        "scripts/release --versions newest",
        "scripts/release --versions newest --python 3.13",
        'scripts/release --versions lowest -- tests -m "not slow"',
        "python -m docs.gallery",
        "python -m docs.casebook.screenshots",
    ),
    "they need a package that is not here": (
        "scripts/lmms-eval-check",
        "python -m lmms_eval --model emma_viz --model_args pretrained=cobra-3b,dtype=bfloat16 --device cuda --tasks "
        "pope --batch_size 8",
        "emma-viz figure photo.jpg --models runs/my-emma --lens colour",
    ),
}
"""Reason → commands, as they are printed."""
ELSEWHERE = {
    "docs/cookbook.md": "tests/test_cookbook.py",
    "docs/extending/add-a-benchmark.md": "tests/records/benchmarks/test_add_a_benchmark.py",
    "docs/extending/add-a-lens.md": "tests/lens/test_add_a_lens.py",
    "docs/extending/add-a-model.md": "tests/models/test_add_a_model.py",
    "docs/extending/add-a-probe.md": "tests/probes/test_report.py",
}
"""Pages whose Python is run by a test of their own."""
