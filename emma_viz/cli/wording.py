"""What the library says of its arguments, in the words of the command line."""

import re

OPTIONS = (
    (r"load_model\(run_directory, llm_source=…\)", "--llm"),
    (r"vision_source=\{'(\w+)': path\}", r"--vision \1=PATH"),
    (r"\bvision_source\b", "--vision"),
    (r"\btokenizer_source\b", "--tokenizer"),
    (r"\bllm_source\b", "--llm"),
    (r"\bforce=True\b", "--force-lens"),
    (r"\boverwrite=True\b", "--overwrite"),
    (r"\ball_values=True\b", "--all-values"),
    (r"Pass config, for example config=\"[\w-]+\"", "Put its config.json beside it"),
    (r"\bpixels=\"?(\w+)\"?", r"--pixel-loss \1"),
    (r"\bfusion=False\b", "--ablate mff"),
)
"""What stands in messages of the library, and the option that means the same."""


def in_options(message: str) -> str:
    """A message with the options of the command line in place of the library's arguments."""
    for pattern, option in OPTIONS:
        message = re.sub(pattern, option, message)
    return message
